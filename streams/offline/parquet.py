"""Users' features as a parquet file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from online_models.version import Version
from state.stores.scratch import ScratchRows
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


@contextmanager
def rows_beside(path: Path) -> Iterator[ScratchRows]:
    """An empty store for the rows of a file that is to be written, in its folder: there is room for both of them, while
    a temporary folder may lie in memory. Deleted at the end."""
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder,
        closing(ScratchRows(Path(folder) / "rows")) as rows,
    ):
        yield rows
