"""A shopper's row: a value of bytes, a fixed head and a sparse tail of panes.

The same bytes lie in the cache, in RocksDB and in the changelog. A batch joins the rows of its users into
two arrays (heads, panes), computes, and cuts new bytes. A pane is a span of event time in which something
happened; its start is counted in units of five minutes since the epoch.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LAYOUT = 1
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
    ]
)
PANE = np.dtype([("start", "<u4"), ("counts", "<u4", 9), ("items", "<i8"), ("spend", "<i8")])

Heads = NDArray[np.void]
Panes = NDArray[np.void]
Ints = NDArray[np.int64]

_BLANK = np.zeros(1, HEAD)
_BLANK["layout"] = LAYOUT
_BLANK["birth"] = -1
_BLANK["clock"] = _BLANK["last"] = NEVER
_BLANK["segment"] = _BLANK["frm"] = UNASSIGNED
BLANK: bytes = _BLANK.tobytes()


class LayoutError(ValueError):
    """A row of a layout that this version cannot read."""


def join(rows: Sequence[bytes | None]) -> tuple[Heads, Panes, Ints]:
    """Rows as arrays: heads (n,), panes (p,), and the row index of each pane (p,), ascending.

    A missing row becomes a blank head without panes (birth -1).
    """
    size = HEAD.itemsize
    whole = [BLANK if row is None else row for row in rows]
    heads = np.frombuffer(bytearray(b"".join([row[:size] for row in whole])), HEAD)
    if len(heads) and (heads["layout"] != LAYOUT).any():
        raise LayoutError(f"row layout {int(heads['layout'].max())}, expected {LAYOUT}")
    panes = np.frombuffer(b"".join([row[size:] for row in whole]), PANE)
    lengths = (np.fromiter(map(len, whole), np.int64, len(whole)) - size) // PANE.itemsize
    return heads, panes, np.repeat(np.arange(len(whole)), lengths)


def cut(heads: Heads, panes: Panes, owner: Ints) -> list[bytes]:
    """The rows' bytes, in the order of heads; owner ascending."""
    head_bytes, pane_bytes, size = heads.tobytes(), panes.tobytes(), HEAD.itemsize
    ends = (np.searchsorted(owner, np.arange(len(heads) + 1)) * PANE.itemsize).tolist()
    return [
        head_bytes[i * size : (i + 1) * size] + pane_bytes[ends[i] : ends[i + 1]] for i in range(len(heads))
    ]


def clock_of(row: bytes) -> int:
    """The clock (ms) of one row, without joining it."""
    return int(struct.unpack_from("<q", row, HEAD.fields["clock"][1])[0])  # type: ignore[index]


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
