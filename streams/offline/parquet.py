"""Users' features as a parquet file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from online_models.version import Version
from streams.offline import feature_table


def write(
    path: Path, items: Iterable[tuple[bytes, bytes]], now: int, version: Version | None = None, *, judge: bool = False
) -> int:
    """Write a parquet file of users and rows; the number of lines. The file appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    count = 0
    try:
        with pq.ParquetWriter(part, feature_table.schema(version), compression="zstd") as writer:
            for users, stored in feature_table.chunks(items):
                writer.write_table(feature_table.table(users, stored, now, version, judge=judge))
                count += len(users)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count
