"""Users' features as a table: one line a user, the windowed columns as of a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from online_models.assignment import assign
from online_models.distances import Floats
from online_models.prediction import registry
from online_models.prediction.side_model import Shoppers
from online_models.version import Version
from state import features, rows, windows
from state.vocabulary import VOCABULARY, Unit
from streams.errors import DataError

_MEASURES = [(f"{name}_{window}", name) for window in windows.WINDOWS for name in VOCABULARY.published]
COLUMNS = [column for column, _ in _MEASURES]
IN_MONEY = frozenset(column for column, name in _MEASURES if VOCABULARY.unit(name) is Unit.MONEY)
_MONEY = pa.decimal128(18, 2)
SCHEMA = pa.schema(
    [("user_id", pa.string()), ("segment", pa.int32())]
    + [(column, _MONEY if column in IN_MONEY else pa.int64()) for column in COLUMNS]
)
FORETOLD = tuple(column.name for kind in registry.in_tables() for column in kind.columns)


def schema(version: Version | None) -> pa.Schema:
    """The columns of table() under a version."""
    found: list[tuple[str, pa.DataType]] = []
    if version is not None and version.encoder is not None:
        found += [("embedding", pa.list_(pa.float32(), version.encoder.latent)), ("unusual", pa.float32())]
    for kind in registry.in_tables():
        if version is not None and version.side_model(kind) is not None:
            found += [(column.name, pa.from_numpy_dtype(column.dtype)) for column in kind.columns]
    return pa.schema([*SCHEMA, *(pa.field(*one) for one in found)])


def window_sums(stored: Sequence[bytes], now: int) -> tuple[rows.Heads, np.ndarray]:
    """Heads (n,) and window sums (n, 4, measures) of rows as of now (ms); DataError where a row's clock is later."""
    heads, panes, owner = rows.join(stored)
    if len(heads) and int(heads["clock"].max()) > now:
        raise DataError("the time asked for lies below the clock of a row: rows do not go back")
    n = len(heads)
    sums = windows.as_of(
        np.arange(n), np.full(n, now // windows.UNIT), owner, panes["start"].astype(np.int64), owner, rows.values(panes)
    )
    return heads, sums


def raw_matrix(heads: rows.Heads, sums: np.ndarray) -> Floats:
    """The raw matrix (n, 2R + L) of what window_sums() gives."""
    return features.raw(sums, heads["hours"].astype(np.int64))


def table(
    users: Sequence[bytes], stored: Sequence[bytes], now: int, version: Version | None = None, *, judge: bool = False
) -> pa.Table:
    """The lines of some users. A version adds what its models say of them: the embedding, and how badly the encoder
    restores it, in units that one in a hundred rows of training was above; the probabilities of a purchase within seven
    days and of a cart in the next session, if there is one; and of users in the first day after their first event the
    segment at its end, with its probability; null where it is not known. segment is the row's own, unless the version
    is to judge, as of now."""
    heads, sums = window_sums(stored, now)
    segment, raw = heads["segment"], raw_matrix(heads, sums)
    if version is not None and judge:
        segment = assign(version, raw, np.arange(len(heads)), segment.astype(np.int64)).segment
    columns: list[pa.Array] = [
        pa.array([user.decode() for user in users], pa.string()),
        pa.array(segment, pa.int32(), mask=np.asarray(segment) == rows.UNASSIGNED),
    ]
    for i in range(len(windows.WINDOWS)):
        for measure in VOCABULARY.published:
            column = np.ascontiguousarray(sums[:, i, VOCABULARY.column(measure)])
            columns.append(_money(column) if VOCABULARY.unit(measure) is Unit.MONEY else pa.array(column))
    if version is not None and version.encoder is not None:
        encoder = version.encoder
        embedding = encoder.encode(encoder.features(raw)).astype(np.float32)
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(embedding.ravel()), encoder.latent))
        columns.append(pa.array(encoder.unusual(raw).astype(np.float32)))
    if version is not None:
        born = heads["born"].astype(np.int64) * windows.UNIT
        shoppers = Shoppers(raw, np.asarray(segment), now, heads["last"].astype(np.int64), born)
        for kind in registry.in_tables():
            if (model := version.side_model(kind)) is not None:
                predicted = zip(kind.columns, kind.predict(model, version, shoppers), strict=True)
                columns += [pa.array(of.values.astype(column.dtype), mask=of.unknown) for column, of in predicted]
    return pa.Table.from_arrays(columns, schema=schema(version))


def _money(minor: np.ndarray) -> pa.Array:
    """Minor units (int64) as decimal(18, 2), exactly: the 128-bit value is the sign-extended integer."""
    wide = np.empty((len(minor), 2), np.int64)
    wide[:, 0], wide[:, 1] = minor, minor >> 63
    return pa.Array.from_buffers(_MONEY, len(minor), [None, pa.py_buffer(wide.tobytes())])


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


def write(
    path: Path, items: Iterable[tuple[bytes, bytes]], now: int, version: Version | None = None, *, judge: bool = False
) -> int:
    """Write a parquet file of users and rows; the number of lines. The file appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    count = 0
    try:
        with pq.ParquetWriter(part, schema(version), compression="zstd") as writer:
            for users, stored in chunks(items):
                writer.write_table(table(users, stored, now, version, judge=judge))
                count += len(users)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def latest(stored: Iterable[bytes]) -> int:
    """The latest clock of any row, ms (a clock is never below an event's time); 0 where there are none."""
    return max(map(rows.clock_of, stored), default=0)
