"""Alerts on users: one file a rule, the list of rules (`registry.py`), and the changes of level."""
