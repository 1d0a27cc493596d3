"""How segments are found: scaling, k-means, splits and merges, and which segment became which."""
