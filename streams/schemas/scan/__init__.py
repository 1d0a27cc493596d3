"""Reads plain flat JSON records with compiled loops: bytes to fields (fields.py), fields to event columns (events.py).

The loops read a text by its words (words.py), and check no bounds: each of them is given begin and end of the record or
value that it may look at, and compares with the end before it believes a byte. What lies behind the end is the next
record, or padding.
"""
