"""Users' features as a table: one line a user, the windowed columns as of a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from online_models.assignment import assign
from online_models.distances import Floats
from online_models.prediction import registry
from online_models.prediction.side_model import Shoppers
from online_models.version import Version
from state import features, row_windows, rows, windows
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
    added: list[tuple[str, pa.DataType]] = []
    if version is not None and version.encoder is not None:
        added += [("embedding", pa.list_(pa.float32(), version.encoder.latent)), ("unusual", pa.float32())]
    for model in registry.in_tables():
        if version is not None and version.side_model(model) is not None:
            added += [(column.name, pa.from_numpy_dtype(column.dtype)) for column in model.columns]
    return pa.schema([*SCHEMA, *(pa.field(name, kind) for name, kind in added)])


def window_sums(stored: Sequence[bytes], now: int) -> tuple[rows.Heads, np.ndarray]:
    """Heads (n,) and window sums (n, 4, measures) of rows as of now (ms); DataError where a row's clock is later."""
    joined = rows.join(stored)
    if len(joined) and int(joined.heads["clock"].max()) > now:
        raise DataError("the time asked for lies below the clock of a row: rows do not go back")
    return joined.heads, row_windows.window_sums(joined, now // windows.UNIT)


def raw_matrix(heads: rows.Heads, sums: np.ndarray) -> Floats:
    """The raw matrix (n, 2R + L) of what window_sums() gives."""
    return features.raw(sums, heads["hours"].astype(np.int64))


def table(
    users: Sequence[bytes], stored: Sequence[bytes], now: int, version: Version | None = None, *, judge: bool = False
) -> pa.Table:
    """One line a user, with the windowed columns as of now (ms).

    users, stored: ids and rows, of the same length. A version adds what its models predict: the embedding and the
    encoder's reconstruction error, in units that one in a hundred training rows exceeds; the probabilities of a
    purchase within seven days and of a cart in the next session, if there is one; for users in the first day after
    their first event the segment at its end, with its probability. Null: not known. The column segment is that of the
    row; with judge it is the one that the version assigns as of now. DataError where a row's clock is later than now.
    """
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


def latest(stored: Iterable[bytes]) -> int:
    """The latest clock of any row, ms (a clock is never below an event's time); 0 where there are none."""
    return max(map(rows.clock_of, stored), default=0)
