"""Bytes to columns: record batches, event batches, one file a schema. No IO."""
