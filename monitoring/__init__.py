"""The metrics vocabulary and what shows it."""
