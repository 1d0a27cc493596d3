"""How versions are judged: scores, bootstrap intervals, promotion, and the search over the learner's settings."""
