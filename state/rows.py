"""A shopper's row: a value of bytes, a fixed head and a sparse tail of panes.

The same bytes lie in the cache, in RocksDB and in the changelog. A batch joins the rows of its users into
two arrays (heads, panes), computes, and cuts new bytes. A pane is a span of event time in which something
happened; its start is counted in units of five minutes since the epoch.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LAYOUT = 2
MEASURES = (
    "page_views", "product_views", "searches", "carts", "cart_removals",
    "checkouts", "orders", "items", "spend", "sessions",
)  # fmt: skip
PAGE_VIEWS, PRODUCT_VIEWS, SEARCHES, CARTS, CART_REMOVALS, CHECKOUTS, ORDERS, ITEMS, SPEND, SESSIONS = range(10)
REFUNDS = 10  # kept for alerts, not a column
KEPT = 11
RULES = 4  # places for alert rules in the head
NEVER = -(1 << 62)  # a time before all times
UNASSIGNED = -1

HEAD = np.dtype(
    [
        ("layout", "<u2"),
        ("alert", "u1", RULES),  # level of each rule, 0 quiet
        ("hour_events", "<u2"),  # events in the active hour, for the choice of training rows
        ("birth", "<i8"),  # ordinal in the partition of the user's first event
        ("clock", "<i8"),  # ms: as of when the last step was judged
        ("last", "<i8"),  # ms: largest event time
        ("hour", "<u4"),  # the active hour, since the epoch
        ("epoch", "<u4"),  # week of the affinities' decay
        ("totals", "<i8", KEPT),
        ("ids", "<u8", 16),  # recent event ids, newest first
        ("sessions", "<u8", 8),
        ("orders", "<u8", 8),
        ("hours", "<u2", 8),  # decayed events by three hours of the shop's day
        ("category", "<u4", 4),
        ("category_weight", "<u2", 4),
        ("brand", "<u4", 4),
        ("brand_weight", "<u2", 4),
        ("place", "<u4", 3),  # country, region, city as last seen
        ("segment", "<i4"),
        ("since", "<i8"),  # ms: as of when the last change of segment was judged
        ("frm", "<i4"),  # the segment before it
        ("cause", "u1"),  # of it
        ("change_model", "<u4"),  # version under which it was judged
        ("seq", "<u4"),  # changes of segment so far
        ("alert_seq", "<u4"),
        ("model", "<u4"),  # version under which the segment was judged last
        ("alert_since", "<i8", RULES),
        ("born", "<u4"),  # time of the first event applied, in units of five minutes; 0 not known
        ("followed", "u1"),  # 1: training rows of its first day were sent, so its day's end is too
    ]
)
PANE = np.dtype([("start", "<u4"), ("counts", "<u4", 9), ("items", "<i8"), ("spend", "<i8")])
# As they are stored. Most users have few ids and small panes: the ids that there are follow the head, then the panes
# whose numbers are small, then the others.
IDS = (("ids", 16), ("sessions", 8), ("orders", 8))
_KEPT = [name for name in HEAD.names or () if name not in dict(IDS)]
STORED = np.dtype([(name, HEAD.fields[name][0]) for name in _KEPT] + [("held", "u1", 3), ("small", "<u2")])  # type: ignore[index]
# Layout 1 lacked what a new user's fields need, and had places for three rules; the rest is the same, in this order.
_SINCE_2, _RULES_1 = ("born", "followed"), {"alert": ("u1", 3), "alert_since": ("<i8", 3)}
_STORED_1 = np.dtype(
    [(name, _RULES_1.get(name, STORED.fields[name][0])) for name in STORED.names or () if name not in _SINCE_2]  # type: ignore[index]
)
SMALL = np.dtype([("start", "<u4"), ("counts", "u1", 9), ("items", "u1"), ("spend", "<i4")])

Heads = NDArray[np.void]
Panes = NDArray[np.void]
Ints = NDArray[np.int64]

_BLANK = np.zeros(1, STORED)
_BLANK["layout"] = LAYOUT
_BLANK["birth"] = -1
_BLANK["clock"] = _BLANK["last"] = NEVER
_BLANK["segment"] = _BLANK["frm"] = UNASSIGNED
BLANK: bytes = _BLANK.tobytes()


class LayoutError(ValueError):
    """A row of a layout that this version cannot read."""


def join(rows: Sequence[bytes | None]) -> tuple[Heads, Panes, Ints]:
    """Rows as arrays: heads (n,), panes (p,), and the row index of each pane (p,), ascending.

    A missing row becomes a blank head without panes (birth -1); a row of an earlier layout is upgraded.
    """
    size, n = STORED.itemsize, len(rows)
    whole = [BLANK if row is None else row if row[0] == LAYOUT else _upgraded(row) for row in rows]
    stored = np.frombuffer(b"".join([row[:size] for row in whole]), STORED)
    if n and (stored["layout"] != LAYOUT).any():
        raise LayoutError(f"row layout {int(stored['layout'].max())}, expected {LAYOUT}")
    heads = np.zeros(n, HEAD)
    for name in _KEPT:
        heads[name] = stored[name]
    held, small = stored["held"].astype(np.int64), stored["small"].astype(np.int64)
    first = size + 8 * held.sum(1)
    after = first + SMALL.itemsize * small
    large = (np.fromiter(map(len, whole), np.int64, n) - after) // PANE.itemsize
    edges = list(zip(whole, first.tolist(), after.tolist(), strict=True))
    ids = np.zeros((n, 32), np.uint64)
    ids[_filled(held)] = np.frombuffer(b"".join([row[size:a] for row, a, _ in edges]), "<u8")
    place = 0
    for name, room in IDS:
        heads[name] = ids[:, place : place + room]
        place += room
    owner = np.repeat(np.arange(n), small)
    panes = _converted(np.frombuffer(b"".join([row[a:b] for row, a, b in edges]), SMALL), PANE)
    if large.any():
        more = np.frombuffer(b"".join([row[b:] for row, _, b in edges]), PANE)
        owner = np.concatenate((owner, np.repeat(np.arange(n), large)))
        order = np.argsort(owner, kind="stable")
        owner, panes = owner[order], np.concatenate((panes, more))[order]
    return heads, panes, owner


def _upgraded(row: bytes) -> bytes:
    """A row of layout 1 in this one; others as they are."""
    if int.from_bytes(row[:2], "little") != 1 or len(row) < _STORED_1.itemsize:
        return row
    old = np.frombuffer(row, _STORED_1, 1)
    head = np.zeros(1, STORED)
    for name in _STORED_1.names or ():
        if name in _RULES_1:
            head[name][:, : _RULES_1[name][1]] = old[name]
        else:
            head[name] = old[name]
    head["layout"] = LAYOUT
    return head.tobytes() + row[_STORED_1.itemsize :]


def unreadable(rows: Sequence[bytes]) -> list[int]:
    """Indices of those that are no rows of this layout, by their lengths and layout numbers."""
    rows = [_upgraded(row) for row in rows]
    size, length = STORED.itemsize, np.fromiter(map(len, rows), np.int64, len(rows))
    whole = np.flatnonzero(length >= size)
    stored = np.frombuffer(b"".join([rows[i][:size] for i in whole.tolist()]), STORED)
    held, small = stored["held"].astype(np.int64), stored["small"].astype(np.int64)
    rest = length[whole] - size - 8 * held.sum(1) - SMALL.itemsize * small
    good = (stored["layout"] == LAYOUT) & (rest >= 0) & (rest % PANE.itemsize == 0)
    good &= (held <= [room for _, room in IDS]).all(1)
    return sorted(set(range(len(rows))) - set(whole[good].tolist()))


def cut(heads: Heads, panes: Panes, owner: Ints) -> list[bytes]:
    """The rows' bytes, in the order of heads; owner ascending."""
    n = len(heads)
    ids = np.concatenate([heads[name] for name, _ in IDS], axis=1)
    held = np.stack([np.count_nonzero(heads[name], axis=1) for name, _ in IDS], 1)
    small = (panes["counts"] < 256).all(1) & (panes["items"] >= 0) & (panes["items"] < 256)
    small &= (panes["spend"] >= -(1 << 31)) & (panes["spend"] < 1 << 31)
    stored = np.zeros(n, STORED)
    for name in _KEPT:
        stored[name] = heads[name]
    stored["held"] = held
    stored["small"] = np.bincount(owner[small], minlength=n)
    parts = [(stored.tobytes(), np.arange(n + 1) * STORED.itemsize)]
    parts.append((ids[_filled(held)].tobytes(), np.r_[0, np.cumsum(held.sum(1))] * 8))
    for chosen, kind in ((small, SMALL), (~small, PANE)):
        ends = np.searchsorted(owner[chosen], np.arange(n + 1)) * kind.itemsize
        if ends[-1]:
            parts.append((_converted(panes[chosen], kind).tobytes(), ends))
    pieces = []
    for data, ends in parts:
        edges = ends.tolist()
        pieces.append([data[a:b] for a, b in pairwise(edges)])
    return [b"".join(row) for row in zip(*pieces, strict=True)]


def _filled(held: Ints) -> NDArray[np.bool_]:
    """Which of the 32 places for ids are taken, given how many of each kind (n, 3)."""
    return np.concatenate([np.arange(room) < held[:, i, None] for i, (_, room) in enumerate(IDS)], axis=1)


def _converted(panes: Panes, kind: np.dtype) -> Panes:
    if panes.dtype == kind:
        return panes
    out = np.empty(len(panes), kind)
    for name in kind.names or ():
        out[name] = panes[name]
    return out


def clock_of(row: bytes) -> int:
    """The clock (ms) of one row, without joining it."""
    return int(struct.unpack_from("<q", row, STORED.fields["clock"][1])[0])  # type: ignore[index]


def last_of(row: bytes) -> int:
    """The largest event time (ms) of one row, without joining it."""
    return int(struct.unpack_from("<q", row, STORED.fields["last"][1])[0])  # type: ignore[index]


def values(panes: Panes) -> Ints:
    """Measures of panes: (p, 11) int64, columns as MEASURES, then refunds."""
    out = np.empty((len(panes), KEPT), np.int64)
    out[:, :ITEMS] = panes["counts"][:, :7]
    out[:, ITEMS] = panes["items"]
    out[:, SPEND] = panes["spend"]
    out[:, SESSIONS:] = panes["counts"][:, 7:]
    return out


def pack(start: Ints, measures: Ints) -> Panes:
    """Panes from starts (p,) and measures (p, 11); inverse of values()."""
    panes = np.empty(len(start), PANE)
    panes["start"] = start
    panes["counts"][:, :7] = measures[:, :ITEMS]
    panes["counts"][:, 7:] = measures[:, SESSIONS:]
    panes["items"] = measures[:, ITEMS]
    panes["spend"] = measures[:, SPEND]
    return panes
