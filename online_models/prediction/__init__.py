"""Models learned beside the segments: one protocol, the first-day classifier and the propensities."""
