"""What an operator asks for: status, segments, model versions, promotion, tuning."""
