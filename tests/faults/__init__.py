"""The fault suite: a seeded stream, a fault in the middle of it, and what an independent oracle says of the outcome."""
