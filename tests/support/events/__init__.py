"""Seeded event streams: a month of a shop, a squeezed month with faults, every record that is rejected."""
