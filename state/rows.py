"""Rows between bytes and columns.

The same bytes lie in the cache, in RocksDB and in the changelog topic. A batch joins the rows of its users into
columns, computes, and cuts new bytes. A pane is a span of event time in which something happened; its start is counted
in units of five minutes since the epoch.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from state import migrations
from state.layout import LAYOUTS, NEVER, UNASSIGNED, Heads, Ints, RowLayout
from state.row_bytes import (
    Bytes,
    count_panes,
    format_of,
    layout_numbers,
    pane_type,
    read_heads,
    read_panes,
    side_by_side,
    write_panes,
    write_rows,
)
from state.vocabulary import VOCABULARY, Unit, Vocabulary


class LayoutError(ValueError):
    """A row that this version cannot read: its layout is unknown, or its length is wrong."""


@dataclass(frozen=True, slots=True)
class Rows:
    """n rows: heads as columns, panes as bytes."""

    heads: Heads  # (n,) of the layout's head
    pane_bytes: Bytes
    begin: Ints  # (n,) where the panes of each row begin in pane_bytes
    end: Ints

    def __len__(self) -> int:
        return len(self.heads)


@dataclass(frozen=True, slots=True)
class Panes:
    """The panes of n rows as columns."""

    first: Ints  # (n + 1,) the first pane of each row, and the number of panes
    start: Ints  # (p,) units of five minutes, ascending within a row
    measures: Ints  # (p, measures) in the order of the vocabulary


class RowCodec:
    """Reads rows of every layout, and writes them in the newest.

    The newest layout has to hold the measures of the vocabulary in its order; ValueError otherwise, with the line that
    is missing.

    >>> CODEC.cut(CODEC.join([None])) == [CODEC.blank]
    True
    """

    def __init__(self, vocabulary: Vocabulary, layouts: Mapping[int, RowLayout]) -> None:
        self.vocabulary = vocabulary
        self.number = max(layouts)
        self.layout = layout = layouts[self.number]
        self._layouts = layouts
        self._formats = {number: format_of(one) for number, one in layouts.items()}
        self.format = self._formats[self.number]
        _check(self.number, layout, vocabulary)
        blank = np.zeros(1, layout.stored_head)
        blank["layout"] = self.number
        blank["birth"] = -1
        blank["clock"] = blank["last"] = NEVER
        blank["segment"] = blank["frm"] = UNASSIGNED
        self.blank: bytes = blank.tobytes()
        self._clock_at = {number: one.offset("clock") for number, one in layouts.items()}

    def join(self, stored: Sequence[bytes | None]) -> Rows:
        """Rows as columns. A missing row becomes a blank head without panes (birth -1); a row of an older layout is
        converted. LayoutError where a row is of an unknown layout, or damaged."""
        whole = [self.blank if row is None else row for row in stored]
        data, edges = side_by_side(whole)
        numbers = layout_numbers(data, edges)
        if (numbers != self.number).any():
            whole = [self._upgraded(row, number) for row, number in zip(whole, numbers.tolist(), strict=True)]
            data, edges = side_by_side(whole)
        return self._read(data, edges, self.number)

    def _upgraded(self, row: bytes, number: int) -> bytes:
        """A row in the newest layout."""
        if number == self.number:
            return row
        old = self._read(*side_by_side([row]), number)
        panes, before = self._panes(old, number), self._layouts[number]
        heads = migrations.heads(old.heads, before, self.layout, self.number)
        return self.cut(
            self.pack(heads, replace(panes, measures=migrations.measures(panes.measures, before, self.layout)))
        )[0]

    def _read(self, data: Bytes, edges: Ints, number: int) -> Rows:
        """Rows of one layout, one after the other in data, in its head and its order of measures."""
        if number not in self._layouts:
            raise self._unknown(number)
        layout, row_format = self._layouts[number], self._formats[number]
        counts = count_panes(data, edges, row_format)
        if (counts < 0).any():
            length = np.diff(edges)[counts.argmin()]
            raise LayoutError(f"a row of layout {number} has {length} bytes, which is not what its head says")
        heads = np.zeros((len(counts), layout.head.itemsize), np.uint8)
        begin = np.empty(len(counts), np.int64)
        read_heads(data, edges, row_format, heads, begin)
        return Rows(heads.reshape(-1).view(layout.head), data, begin, edges[1:])

    def panes(self, rows: Rows) -> Panes:
        """The panes of rows as columns."""
        return self._panes(rows, self.number)

    def _panes(self, rows: Rows, number: int) -> Panes:
        layout, row_format = self._layouts[number], self._formats[number]
        small = rows.heads["small"].astype(np.int64)
        large = (rows.end - rows.begin - small * layout.small_pane.itemsize) // layout.pane.itemsize
        first = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(small + large, out=first[1:])
        panes = np.empty(first[-1], pane_type(len(layout.measures)))
        for row in range(len(rows)):
            mine = panes[first[row] : first[row + 1]]
            read_panes(rows.pane_bytes, rows.begin[row], rows.end[row], small[row], row_format, mine)
        return Panes(first, panes["start"], panes["measures"])

    def pack(self, heads: Heads, panes: Panes) -> Rows:
        """Rows of heads (n,) in the newest layout, and panes; inverse of panes(). Sets `small` in the heads."""
        first, records = panes.first, np.empty(len(panes.start), pane_type(len(self.layout.measures)))
        records["start"], records["measures"] = panes.start, panes.measures
        pane_bytes = np.empty(len(panes.start) * self.layout.pane.itemsize, np.uint8)
        begin, end = np.zeros(len(heads), np.int64), np.zeros(len(heads), np.int64)
        place = 0
        for row in range(len(heads)):
            mine = records[first[row] : first[row + 1]]
            begin[row] = place
            heads["small"][row], place = write_panes(mine, len(mine), self.format, pane_bytes, place)
            end[row] = place
        return Rows(heads, pane_bytes, begin, end)

    def cut(self, rows: Rows, wanted: Ints | None = None) -> list[bytes]:
        """The bytes of the wanted rows (w,), of all if there is no choice."""
        if wanted is None:
            wanted = np.arange(len(rows))
        heads = np.ascontiguousarray(rows.heads).view(np.uint8).reshape(len(rows), self.layout.head.itemsize)
        edges = np.empty(len(wanted) + 1, np.int64)
        data = write_rows(wanted, self.format, heads, rows.pane_bytes, rows.begin, rows.end, edges).tobytes()
        return [data[a:b] for a, b in pairwise(edges.tolist())]

    def unreadable(self, stored: Sequence[bytes]) -> list[int]:
        """Indices of those that are no rows, by their layout numbers and lengths; ascending."""
        numbers = layout_numbers(*side_by_side(stored))
        readable = np.zeros(len(stored), bool)
        for number, row_format in self._formats.items():
            of_layout = np.flatnonzero(numbers == number)
            data, edges = side_by_side([stored[i] for i in of_layout.tolist()])
            readable[of_layout] = count_panes(data, edges, row_format) >= 0
        return np.flatnonzero(~readable).tolist()

    def clock_of(self, row: bytes) -> int:
        """The clock (ms) of one row, without joining it."""
        try:
            return int(_INT64.unpack_from(row, self._clock_at[row[0]])[0])

        except KeyError:
            raise self._unknown(row[0]) from None

    def _unknown(self, number: int) -> LayoutError:
        return LayoutError(f"row layout {number}, this version reads {', '.join(map(str, sorted(self._layouts)))}")


_INT64 = struct.Struct("<q")


def _check(number: int, layout: RowLayout, vocabulary: Vocabulary) -> None:
    """ValueError where a layout does not hold the measures of a vocabulary."""
    units = {measure: vocabulary.unit(measure) for measure in vocabulary.measures}
    if layout.measures != vocabulary.measures or units != {one: layout.unit(one) for one in layout.measures}:
        wide = {one: unit for one, unit in units.items() if unit is not Unit.COUNT}
        raise ValueError(
            f"layout {number} does not hold the measures of the table; LAYOUTS in state/layout.py needs a line "
            f"{number + 1} with measures {vocabulary.measures} and units {wide}"
        )


CODEC = RowCodec(VOCABULARY, LAYOUTS)
BLANK = CODEC.blank
join, cut, panes, pack, unreadable = CODEC.join, CODEC.cut, CODEC.panes, CODEC.pack, CODEC.unreadable
clock_of = CODEC.clock_of
