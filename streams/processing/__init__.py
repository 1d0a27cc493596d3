"""The path of one batch: merge, step, changes, alerts, what is sent. No IO, no clock, no chance."""
