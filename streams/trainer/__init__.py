"""`shoal train`: training rows to an encoder."""
