"""How good the segments are, measured on planted and on real shoppers."""
