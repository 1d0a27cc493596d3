"""The windows of rows as of a time, without events: for tables, and for the expiry index."""

from __future__ import annotations

from typing import Any

import numpy as np

from state.compiled import compiled
from state.layout import Ints
from state.row_bytes import Bytes, RowFormat, pane_type, read_panes, write_panes
from state.rows import CODEC, RowCodec, Rows
from state.windows import UNIT, copy, edges, enter, next_edge, settle, window_type


def window_sums(rows: Rows, now: Ints | int, codec: RowCodec = CODEC) -> Ints:
    """Sums of each window as of now (n,), or one for all, in units, not before the rows' clocks: (n, 4, measures)."""
    sums = np.empty((len(rows), 4, len(codec.vocabulary.measures)), np.int64)
    _window_sums(*_bytes_of(rows), codec.format, *_memory(rows, codec), np.broadcast_to(now, len(rows)).copy(), sums)
    return sums


def next_edges(rows: Rows, after: Ints, codec: RowCodec = CODEC) -> Ints:
    """The next edge after `after` (n,) at which a pane of each row leaves a window, (n,), in units; windows.NO_EDGE
    where none does."""
    found = np.empty(len(rows), np.int64)
    _next_edges(*_bytes_of(rows), codec.format, *_memory(rows, codec), after, found)
    return found


def all_edges(rows: Rows, codec: RowCodec = CODEC) -> Ints:
    """Every edge (units) at which a pane of one of the rows leaves a window, (4 p,)."""
    # a column of records is not contiguous, and edges() is compiled for an array that is
    starts = np.ascontiguousarray(codec.panes(rows).start)
    return np.concatenate(edges(starts))


def settled(rows: Rows, codec: RowCodec = CODEC) -> Rows:
    """Rows whose panes are merged and dropped as of their clocks. Sets `small` in the heads."""
    begin, end = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    panes, _ = _memory(rows, codec)
    pane_bytes = _settle(rows.heads, rows.pane_bytes, rows.begin, rows.end, codec.format, panes, begin, end)
    return Rows(rows.heads, pane_bytes, begin, end)


def _bytes_of(rows: Rows) -> tuple[Ints, Bytes, Ints, Ints]:
    return rows.heads["small"].astype(np.int64), rows.pane_bytes, rows.begin, rows.end


def _memory(rows: Rows, codec: RowCodec) -> tuple[Any, Any]:
    """Memory for the panes of the longest row, and for its windows."""
    longest = int((rows.end - rows.begin).max(initial=0)) // codec.format.small_pane.size
    measures = len(codec.vocabulary.measures)
    return np.empty(longest, pane_type(measures)), np.zeros(4, window_type(measures))


@compiled
def _window_sums(
    small: Ints,
    pane_bytes: Bytes,
    begin: Ints,
    end: Ints,
    row_format: RowFormat,
    panes: Any,
    windows: Any,
    now: Ints,
    sums: Ints,
) -> None:
    for row in range(len(begin)):
        size = read_panes(pane_bytes, begin[row], end[row], small[row], row_format, panes)
        enter(windows, panes, size, now[row])
        for window in range(4):
            copy(sums[row, window], windows[window]["sums"])


@compiled
def _next_edges(
    small: Ints,
    pane_bytes: Bytes,
    begin: Ints,
    end: Ints,
    row_format: RowFormat,
    panes: Any,
    windows: Any,
    after: Ints,
    found: Ints,
) -> None:
    for row in range(len(begin)):
        size = read_panes(pane_bytes, begin[row], end[row], small[row], row_format, panes)
        enter(windows, panes, size, after[row])
        found[row] = next_edge(windows, panes, size)


@compiled
def _settle(
    heads: Any,
    pane_bytes: Bytes,
    begin: Ints,
    end: Ints,
    row_format: RowFormat,
    panes: Any,
    new_begin: Ints,
    new_end: Ints,
) -> Bytes:
    # merged panes can be large ones where those before were small
    count = len(pane_bytes) // row_format.small_pane.size
    new_bytes = np.empty(count * row_format.large_pane.size, np.uint8)
    place = 0
    for row in range(len(heads)):
        head = heads[row]
        size = read_panes(pane_bytes, begin[row], end[row], int(head["small"]), row_format, panes)
        size = settle(panes, size, head["clock"] // UNIT)
        new_begin[row] = place
        head["small"], place = write_panes(panes, size, row_format, new_bytes, place)
        new_end[row] = place
    return new_bytes[:place]
