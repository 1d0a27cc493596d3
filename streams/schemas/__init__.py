"""Bytes to columns: record batches, event batches, and source schemas, one file each. No IO."""
