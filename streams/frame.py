"""Users' features as a table: one line a user, the windowed columns as of a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from online_models.version import Version, assign
from state import rows, vector, windows
from streams.errors import DataError

COLUMNS = [f"{measure}_{window}" for window in windows.WINDOWS for measure in rows.MEASURES]
_SPEND = pa.decimal128(18, 2)
SCHEMA = pa.schema(
    [("user_id", pa.string()), ("segment", pa.int32())]
    + [(name, _SPEND if name.startswith("spend") else pa.int64()) for name in COLUMNS]
)


def features(stored: Sequence[bytes], now: int) -> tuple[rows.Heads, np.ndarray]:
    """Heads (n,) and window sums (n, 4, 11) of rows as of now (ms); DataError where a row's clock is later."""
    heads, panes, owner = rows.join(stored)
    if len(heads) and int(heads["clock"].max()) > now:
        raise DataError("the time asked for lies below the clock of a row: rows do not go back")
    n = len(heads)
    sums = windows.as_of(
        np.arange(n), np.full(n, now // windows.UNIT), owner, panes["start"].astype(np.int64), owner, rows.values(panes)
    )
    return heads, sums


def table(users: Sequence[bytes], stored: Sequence[bytes], now: int, version: Version | None = None) -> pa.Table:
    """The lines of some users. segment is the row's own; with a version, what that version says as of now."""
    heads, sums = features(stored, now)
    segment = heads["segment"]
    if version is not None:
        raw = vector.raw(sums, heads["hours"].astype(np.int64))
        segment = assign(version, raw, np.arange(len(heads)), heads["segment"].astype(np.int64)).segment
    columns: list[pa.Array] = [
        pa.array([user.decode() for user in users], pa.string()),
        pa.array(segment, pa.int32(), mask=np.asarray(segment) == rows.UNASSIGNED),
    ]
    for i in range(len(windows.WINDOWS)):
        for j, measure in enumerate(rows.MEASURES):
            column = np.ascontiguousarray(sums[:, i, j])
            columns.append(_money(column) if measure == "spend" else pa.array(column))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _money(minor: np.ndarray) -> pa.Array:
    """Minor units (int64) as decimal(18, 2), exactly: the 128-bit value is the sign-extended integer."""
    wide = np.empty((len(minor), 2), np.int64)
    wide[:, 0], wide[:, 1] = minor, minor >> 63
    return pa.Array.from_buffers(_SPEND, len(minor), [None, pa.py_buffer(wide.tobytes())])


def chunks(items: Iterable[tuple[bytes, bytes]], size: int = 50_000) -> Iterator[tuple[list[bytes], list[bytes]]]:
    users: list[bytes] = []
    stored: list[bytes] = []
    for user, row in items:
        users.append(user)
        stored.append(row)
        if len(users) == size:
            yield users, stored
            users, stored = [], []
    if users:
        yield users, stored


def write(path: Path, items: Iterable[tuple[bytes, bytes]], now: int, version: Version | None = None) -> int:
    """Write a parquet file of users and rows; the number of lines. The file appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    count = 0
    try:
        with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
            for users, stored in chunks(items):
                writer.write_table(table(users, stored, now, version))
                count += len(users)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def latest(stored: Iterable[bytes]) -> int:
    """The latest clock of any row, ms (a clock is never below an event's time); 0 where there are none."""
    return max(map(rows.clock_of, stored), default=0)
