"""What an operator asks for: overviews, segments, versions, promotion, tuning."""
