"""The bytes of rows, compiled: heads, recent ids and panes.

A stored row is a head of fixed length, then the recent ids that there are (8 bytes each), then the small panes, then
the large ones (state/layout.py). All numbers are little-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state.compiled import compiled
from state.layout import IDS, Ints, RowLayout

Bytes = NDArray[np.uint8]


class Cells(NamedTuple):
    """Where a pane of one size has its measures: the start, then the counts side by side, then the other measures."""

    size: int  # bytes of a pane
    counts: Ints  # (c,) column of each count among the measures
    others: Ints  # (o, 4): column, offset in the pane, bytes (1, 4 or 8), 1 where it is signed
    others_range: Ints  # (o, 2): the smallest and the largest number that fits


class RowFormat(NamedTuple):
    """The places of a layout that reading and writing need, in bytes."""

    head: int  # of a stored head
    held: int  # offset in the head: how many ids of each kind there are
    small: int  # offset in the head: how many panes are small
    id_places: Ints  # (3,) places for ids of each kind in memory
    small_pane: Cells
    large_pane: Cells


@cache
def pane_type(measures: int) -> np.dtype[np.void]:
    """A pane in memory: start in units of five minutes. The type says how many measures there are, so that the compiler
    unrolls loops over them."""
    return np.dtype([("start", "i8"), ("measures", "i8", measures)])


def format_of(layout: RowLayout) -> RowFormat:
    """The places of a layout."""
    return RowFormat(
        layout.stored_head.itemsize,
        layout.offset("held"),
        layout.offset("small"),
        np.array(list(IDS.values()), np.int64),
        _cells(layout, layout.small_pane),
        _cells(layout, layout.pane),
    )


def _cells(layout: RowLayout, pane: np.dtype[np.void]) -> Cells:
    others, ranges = [], []
    fields: Any = pane.fields
    for measure in layout.wide:
        kind, offset = fields[measure][:2]
        others.append((layout.measures.index(measure), offset, kind.itemsize, kind.kind == "i"))
        ranges.append((np.iinfo(kind).min, np.iinfo(kind).max))
    return Cells(
        pane.itemsize,
        np.array([layout.measures.index(measure) for measure in layout.counts], np.int64),
        np.array(others, np.int64).reshape(-1, 4),
        np.array(ranges, np.int64).reshape(-1, 2),
    )


def side_by_side(stored: Sequence[bytes]) -> tuple[Bytes, Ints]:
    """The bytes of n rows or keys, one after the other, and where each begins (n + 1,).

    The array can be written to, as can those of new rows: for another kind each loop would be compiled once more.
    """
    edges = np.zeros(len(stored) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, stored), np.int64, len(stored)), out=edges[1:])
    return np.frombuffer(bytearray().join(stored), np.uint8), edges


@compiled
def layout_numbers(data: Bytes, edges: Ints) -> Ints:
    """The layout of each row (n,): its first two bytes, 0 (of no layout) where it has fewer.

    data: the bytes of n rows, one after the other; edges (n + 1,): where each begins, and the end.
    """
    numbers = np.zeros(len(edges) - 1, np.int64)
    for row in range(len(numbers)):
        if edges[row + 1] - edges[row] >= 2:
            numbers[row] = _read(data, edges[row], 2)
    return numbers


@compiled
def count_panes(data: Bytes, edges: Ints, row_format: RowFormat) -> Ints:
    """The number of panes of each row (n,), -1 for a row that is damaged: its length is not what it says of itself.

    data: the bytes of n rows, one after the other; edges (n + 1,): where each begins, and the end.
    """
    counts = np.full(len(edges) - 1, -1)
    large_size = row_format.large_pane.size
    for row in range(len(counts)):
        start = edges[row]
        rest = edges[row + 1] - start - row_format.head
        if rest < 0:
            continue
        whole = True
        for kind in range(len(row_format.id_places)):
            held = int(data[start + row_format.held + kind])
            whole = whole and held <= row_format.id_places[kind]
            rest -= 8 * held
        small = _read(data, start + row_format.small, 2)
        rest -= small * row_format.small_pane.size
        if whole and rest >= 0 and rest % large_size == 0:
            counts[row] = small + rest // large_size
    return counts


@compiled
def read_heads(data: Bytes, edges: Ints, row_format: RowFormat, heads: Bytes, begin: Ints) -> None:
    """Read the heads of rows that count_panes() has found whole, and where their panes begin in data.

    heads (n, bytes of a head in memory), zeros; begin (n,).
    """
    for row in range(len(edges) - 1):
        place = edges[row]
        for i in range(row_format.head):
            heads[row, i] = data[place + i]
        numbers, into = place + row_format.held, row_format.head
        place += row_format.head
        for kind in range(len(row_format.id_places)):
            held = 8 * int(data[numbers + kind])
            for i in range(held):
                heads[row, into + i] = data[place + i]
            place += held
            into += 8 * row_format.id_places[kind]
        begin[row] = place


@compiled
def read_panes(data: Bytes, begin: int, end: int, small: int, row_format: RowFormat, panes: Any) -> int:
    """Read a row's panes into panes (room,), in the order of start; returns how many.

    begin, end: of the panes in data; small: how many of them are small.
    """
    small_pane, large_pane = row_format.small_pane, row_format.large_pane
    small_end = begin + small * small_pane.size
    place, large, size = begin, small_end, 0
    while place < small_end or large < end:
        small_start = _read(data, place, 4) if place < small_end else 1 << 40
        large_start = _read(data, large, 4) if large < end else 1 << 40
        measures = panes[size]["measures"]
        panes[size]["start"] = min(small_start, large_start)
        if small_start < large_start:
            for i in range(len(small_pane.counts)):
                measures[small_pane.counts[i]] = data[place + 4 + i]
            _read_others(data, place, small_pane.others, measures)
            place += small_pane.size
        else:
            for i in range(len(large_pane.counts)):
                measures[large_pane.counts[i]] = _read(data, large + 4 + 4 * i, 4)
            _read_others(data, large, large_pane.others, measures)
            large += large_pane.size
        size += 1
    return size


@compiled
def write_panes(panes: Any, size: int, row_format: RowFormat, data: Bytes, place: int) -> tuple[int, int]:
    """Write `size` panes to data from place on, small ones first; returns how many are small, and the end."""
    small_pane, large_pane = row_format.small_pane, row_format.large_pane
    small = 0
    for i in range(size):
        measures = panes[i]["measures"]
        if _is_small(small_pane, measures):
            _write(data, place, 4, panes[i]["start"])
            for j in range(len(small_pane.counts)):
                data[place + 4 + j] = measures[small_pane.counts[j]]
            _write_others(data, place, small_pane.others, measures)
            place += small_pane.size
            small += 1
    if small < size:
        for i in range(size):
            measures = panes[i]["measures"]
            if not _is_small(small_pane, measures):
                _write(data, place, 4, panes[i]["start"])
                for j in range(len(large_pane.counts)):
                    _write(data, place + 4 + 4 * j, 4, measures[large_pane.counts[j]])
                _write_others(data, place, large_pane.others, measures)
                place += large_pane.size
    return small, place


@compiled
def write_rows(
    wanted: Ints, row_format: RowFormat, heads: Bytes, pane_bytes: Bytes, begin: Ints, end: Ints, edges: Ints
) -> Bytes:
    """The bytes of the wanted rows (w,), one after the other; sets edges (w + 1,).

    heads (n, bytes of a head in memory); begin, end (n,): where each row's panes lie in pane_bytes.
    """
    size = 0
    for row in wanted:
        size += heads.shape[1] + end[row] - begin[row]
    data = np.empty(size, np.uint8)
    place = 0
    for i in range(len(wanted)):
        row = wanted[i]
        edges[i] = place
        numbers = place + row_format.held
        for j in range(row_format.head):
            data[place + j] = heads[row, j]
        place += row_format.head
        ids = row_format.head
        for kind in range(len(row_format.id_places)):
            held = 0
            while held < row_format.id_places[kind] and _is_id(heads, row, ids + 8 * held):
                for j in range(8):
                    data[place + j] = heads[row, ids + 8 * held + j]
                place += 8
                held += 1
            data[numbers + kind] = held
            ids += 8 * row_format.id_places[kind]
        for j in range(begin[row], end[row]):
            data[place] = pane_bytes[j]
            place += 1
    edges[len(wanted)] = place
    return data[:place]


@compiled
def _is_id(heads: Bytes, row: int, place: int) -> bool:
    """Whether the eight bytes are an id: all are 0 where there is none."""
    found = False
    for i in range(8):
        found = found or heads[row, place + i] != 0
    return found


@compiled
def _read_others(data: Bytes, place: int, others: Ints, measures: Ints) -> None:
    for i in range(len(others)):
        width = others[i, 2]
        value = _read(data, place + others[i, 1], width)
        if others[i, 3] and width == 4 and value >= 1 << 31:
            value -= 1 << 32
        measures[others[i, 0]] = value


@compiled
def _write_others(data: Bytes, place: int, others: Ints, measures: Ints) -> None:
    for i in range(len(others)):
        _write(data, place + others[i, 1], others[i, 2], measures[others[i, 0]])


@compiled
def _is_small(small: Cells, measures: Ints) -> bool:
    """Whether all measures of a pane fit into a small one."""
    for i in range(len(small.counts)):
        if not 0 <= measures[small.counts[i]] < 256:
            return False
    for i in range(len(small.others)):
        if not small.others_range[i, 0] <= measures[small.others[i, 0]] <= small.others_range[i, 1]:
            return False
    return True


@compiled
def _read(data: Bytes, place: int, width: int) -> Any:
    """An unsigned number of 1, 2, 4 or 8 bytes; one of 8 bytes is signed."""
    if width == 1:
        return np.int64(data[place])
    value = np.int64(data[place]) | np.int64(data[place + 1]) << 8
    if width >= 4:
        value |= np.int64(data[place + 2]) << 16 | np.int64(data[place + 3]) << 24
    if width == 8:
        value |= np.int64(data[place + 4]) << 32 | np.int64(data[place + 5]) << 40
        value |= np.int64(data[place + 6]) << 48 | np.int64(data[place + 7]) << 56
    return value


@compiled
def _write(data: Bytes, place: int, width: int, value: int) -> None:
    data[place] = value & 255
    if width >= 2:
        data[place + 1] = value >> 8 & 255
    if width >= 4:
        data[place + 2] = value >> 16 & 255
        data[place + 3] = value >> 24 & 255
    if width == 8:
        data[place + 4] = value >> 32 & 255
        data[place + 5] = value >> 40 & 255
        data[place + 6] = value >> 48 & 255
        data[place + 7] = value >> 56 & 255
