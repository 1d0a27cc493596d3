"""Rows between bytes and arrays.

The same bytes lie in the cache, in RocksDB and in the changelog topic. A batch joins the rows of its users into two
arrays (heads, panes), computes, and cuts new bytes. A pane is a span of event time in which something happened; its
start is counted in units of five minutes since the epoch.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from state import migrations
from state.layout import IDS, LAYOUTS, NEVER, UNASSIGNED, Heads, Ints, Panes, RowLayout
from state.vocabulary import VOCABULARY, Unit, Vocabulary


class LayoutError(ValueError):
    """A row of a layout that this version cannot read."""


class RowCodec:
    """Reads rows of every layout, and writes them in the newest.

    The newest layout has to hold the measures of the vocabulary in its order; ValueError otherwise, with the line that
    is missing.

    >>> heads, panes, owner = CODEC.join([None])
    >>> CODEC.cut(heads, panes, owner) == [CODEC.blank]
    True
    """

    def __init__(self, vocabulary: Vocabulary, layouts: Mapping[int, RowLayout]) -> None:
        self.vocabulary = vocabulary
        self.number = max(layouts)
        self.layout = layout = layouts[self.number]
        self._layouts = layouts
        _check(self.number, layout, vocabulary)
        blank = np.zeros(1, layout.stored_head)
        blank["layout"] = self.number
        blank["birth"] = -1
        blank["clock"] = blank["last"] = NEVER
        blank["segment"] = blank["frm"] = UNASSIGNED
        self.blank: bytes = blank.tobytes()
        # counts lie side by side in a pane, and in runs among the measures: copied by runs, which is as fast as by one
        column = [vocabulary.column(measure) for measure in layout.counts]
        starts = [i for i, at in enumerate(column) if i == 0 or at != column[i - 1] + 1]
        self._runs = [
            (slice(column[a], column[b - 1] + 1), slice(a, b)) for a, b in pairwise([*starts, len(layout.counts)])
        ]
        self._wide = [(vocabulary.column(measure), measure) for measure in layout.wide]
        room = {measure: np.iinfo(layout.small_pane[measure]) for measure in layout.wide}
        self._small = [(measure, int(one.min), int(one.max)) for measure, one in room.items()]  # what small panes hold
        self._clock_at = {number: one.offset("clock") for number, one in layouts.items()}
        self._last_at = {number: one.offset("last") for number, one in layouts.items()}

    def join(self, rows: Sequence[bytes | None]) -> tuple[Heads, Panes, Ints]:
        """Rows as arrays: heads (n,), panes (p,), and the row index of each pane (p,), ascending.

        A missing row becomes a blank head without panes (birth -1). A row of an older layout is converted. LayoutError
        where a row is of an unknown layout.
        """
        whole = [self.blank if row is None else row for row in rows]
        if not set(map(_LOW_BYTE, whole)) <= {self.number}:
            return self._join_layouts(whole)
        return self._read(whole, self.number)

    def _join_layouts(self, rows: Sequence[bytes]) -> tuple[Heads, Panes, Ints]:
        """Rows of several layouts."""
        heads = np.zeros(len(rows), self.layout.head)
        panes: list[Panes] = []
        owners: list[Ints] = []
        for number, at in self._by_layout(rows).items():
            found, found_panes, owner = self._read([rows[i] for i in at.tolist()], number)
            if number != self.number:
                old = self._layouts[number]
                found = migrations.heads(found, old, self.layout, self.number)
                found_panes = migrations.panes(found_panes, old, self.layout)
            heads[at] = found
            panes.append(found_panes)
            owners.append(at[owner])
        owner = np.concatenate(owners)
        order = np.argsort(owner, kind="stable")
        return heads, np.concatenate(panes)[order], owner[order]

    def _read(self, rows: Sequence[bytes], number: int) -> tuple[Heads, Panes, Ints]:
        """Rows of one layout in the arrays of that layout, else as join()."""
        if number not in self._layouts:
            raise self._unknown(number)
        layout = self._layouts[number]
        size, n = layout.stored_head.itemsize, len(rows)
        stored = np.frombuffer(b"".join([row[:size] for row in rows]), layout.stored_head)
        if (stored["layout"] != number).any():  # the caller has looked at one of its two bytes
            raise self._unknown(int(stored["layout"].max()))
        heads = np.zeros(n, layout.head)
        for name in layout.head_names:
            heads[name] = stored[name]
        held, small = stored["held"].astype(np.int64), stored["small"].astype(np.int64)
        first = size + 8 * held.sum(1)
        after = first + layout.small_pane.itemsize * small
        large = (np.fromiter(map(len, rows), np.int64, n) - after) // layout.pane.itemsize
        edges = list(zip(rows, first.tolist(), after.tolist(), strict=True))
        ids = np.zeros((n, sum(IDS.values())), np.uint64)
        ids[_filled(held)] = np.frombuffer(b"".join([row[size:a] for row, a, _ in edges]), "<u8")
        place = 0
        for name, room in IDS.items():
            heads[name] = ids[:, place : place + room]
            place += room
        owner = np.repeat(np.arange(n), small)
        panes = _converted(np.frombuffer(b"".join([row[a:b] for row, a, b in edges]), layout.small_pane), layout.pane)
        if large.any():
            more = np.frombuffer(b"".join([row[b:] for row, _, b in edges]), layout.pane)
            owner = np.concatenate((owner, np.repeat(np.arange(n), large)))
            order = np.argsort(owner, kind="stable")
            owner, panes = owner[order], np.concatenate((panes, more))[order]
        return heads, panes, owner

    def cut(self, heads: Heads, panes: Panes, owner: Ints) -> list[bytes]:
        """The rows' bytes, in the order of heads (n,); panes (p,) with the row index of each, owner (p,), ascending."""
        n, layout = len(heads), self.layout
        ids = np.concatenate([heads[name] for name in IDS], axis=1)
        held = np.stack([np.count_nonzero(heads[name], axis=1) for name in IDS], 1)
        small = (panes["counts"] < 256).all(1)
        for measure, least, most in self._small:
            small &= (panes[measure] >= least) & (panes[measure] <= most)
        stored = np.zeros(n, layout.stored_head)
        for name in layout.head_names:
            stored[name] = heads[name]
        stored["held"] = held
        stored["small"] = np.bincount(owner[small], minlength=n)
        parts = [(stored.tobytes(), np.arange(n + 1) * layout.stored_head.itemsize)]
        parts.append((ids[_filled(held)].tobytes(), np.r_[0, np.cumsum(held.sum(1))] * 8))
        for chosen, kind in ((small, layout.small_pane), (~small, layout.pane)):
            ends = np.searchsorted(owner[chosen], np.arange(n + 1)) * kind.itemsize
            if ends[-1]:
                parts.append((_converted(panes[chosen], kind).tobytes(), ends))
        pieces = []
        for data, ends in parts:
            edges = ends.tolist()
            pieces.append([data[a:b] for a, b in pairwise(edges)])
        return [b"".join(row) for row in zip(*pieces, strict=True)]

    def unreadable(self, rows: Sequence[bytes]) -> list[int]:
        """Indices of those that are no rows, by their layout numbers and lengths; ascending."""
        good: list[int] = []
        for number, at in self._by_layout(rows).items():
            if number in self._layouts:
                good += at[_whole([rows[i] for i in at.tolist()], self._layouts[number])].tolist()
        return sorted(set(range(len(rows))) - set(good))

    def values(self, panes: Panes) -> Ints:
        """Measures of panes: (p, measures) int64, columns in the order of the vocabulary."""
        out = np.empty((len(panes), len(self.layout.measures)), np.int64)
        counts = panes["counts"]
        for columns, cells in self._runs:
            out[:, columns] = counts[:, cells]
        for column, measure in self._wide:
            out[:, column] = panes[measure]
        return out

    def pack(self, start: Ints, measures: Ints) -> Panes:
        """Panes from starts (p,), units, and measures (p, measures); inverse of values()."""
        panes = np.empty(len(start), self.layout.pane)
        panes["start"] = start
        counts = panes["counts"]
        for columns, cells in self._runs:
            counts[:, cells] = measures[:, columns]
        for column, measure in self._wide:
            panes[measure] = measures[:, column]
        return panes

    def clock_of(self, row: bytes) -> int:
        """The clock (ms) of one row, without joining it."""
        return self._number_at(self._clock_at, row)

    def last_of(self, row: bytes) -> int:
        """The largest event time (ms) of one row, without joining it."""
        return self._number_at(self._last_at, row)

    def _number_at(self, places: Mapping[int, int], row: bytes) -> int:
        """A field of 64 bits, whose place depends on the layout."""
        try:
            return int(_INT64.unpack_from(row, places[row[0]])[0])
        except KeyError:
            raise self._unknown(row[0]) from None

    def _by_layout(self, rows: Sequence[bytes]) -> dict[int, Ints]:
        """Indices of rows by layout number."""
        number = np.array([int.from_bytes(row[:2], "little") for row in rows], np.int64)
        return {one: np.flatnonzero(number == one) for one in np.unique(number).tolist()}

    def _unknown(self, number: int) -> LayoutError:
        return LayoutError(f"row layout {number}, this version reads {', '.join(map(str, sorted(self._layouts)))}")


_LOW_BYTE = itemgetter(0)  # of the layout's number, with which a row begins
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


def _whole(rows: Sequence[bytes], layout: RowLayout) -> Ints:
    """Indices of the rows of a layout whose lengths fit what they say of themselves."""
    size, length = layout.stored_head.itemsize, np.fromiter(map(len, rows), np.int64, len(rows))
    at = np.flatnonzero(length >= size)
    stored = np.frombuffer(b"".join([rows[i][:size] for i in at.tolist()]), layout.stored_head)
    held, small = stored["held"].astype(np.int64), stored["small"].astype(np.int64)
    rest = length[at] - size - 8 * held.sum(1) - layout.small_pane.itemsize * small
    good = (rest >= 0) & (rest % layout.pane.itemsize == 0) & (held <= list(IDS.values())).all(1)
    return at[good]


def _filled(held: Ints) -> NDArray[np.bool_]:
    """Which of the 32 places for ids are taken, given how many of each kind (n, 3)."""
    return np.concatenate([np.arange(room) < held[:, i, None] for i, room in enumerate(IDS.values())], axis=1)


def _converted(panes: Panes, kind: np.dtype[np.void]) -> Panes:
    if panes.dtype == kind:
        return panes
    out = np.empty(len(panes), kind)
    for name in kind.names or ():
        out[name] = panes[name]
    return out


CODEC = RowCodec(VOCABULARY, LAYOUTS)
BLANK = CODEC.blank
join, cut, unreadable = CODEC.join, CODEC.cut, CODEC.unreadable
values, pack = CODEC.values, CODEC.pack
clock_of, last_of = CODEC.clock_of, CODEC.last_of
