"""Where rows are stored: in RocksDB under a cache, or in memory. The only package of `state` with IO."""
