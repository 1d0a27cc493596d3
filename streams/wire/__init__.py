"""Bytes to columns: one file a schema; a bad record is a value with a reason, never an exception."""
