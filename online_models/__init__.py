"""River's incremental k-means, the scaler in front of it, and numbered versions of both."""
