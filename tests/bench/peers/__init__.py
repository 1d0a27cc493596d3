"""`make bench-peers`: one small streaming job in shoal's parts and in other engines, on the same broker, in turn."""
