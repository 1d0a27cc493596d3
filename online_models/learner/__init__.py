"""The learner: training rows and control messages in log order -> numbered versions."""
