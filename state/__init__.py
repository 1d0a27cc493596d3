"""A shopper's row: layout, recent ids, windows as of each step, features, and the store."""
