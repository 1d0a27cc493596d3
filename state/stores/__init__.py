"""Where rows lie: RocksDB under a cache, or memory alone. The one room of `state` that touches disks."""
