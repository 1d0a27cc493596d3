"""Rows between bytes and arrays.

The same bytes lie in the cache, in RocksDB and in the changelog topic. A batch joins the rows of its users into two
arrays (heads, panes), computes, and cuts new bytes. A pane is a span of event time in which something happened; its
start is counted in units of five minutes since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from state.layout import IDS, LAYOUT, LAYOUTS, NEVER, UNASSIGNED, Heads, Ints, RowLayout
from state.vocabulary import VOCABULARY, Vocabulary

Panes = NDArray[np.void]  # (p,) of a pane dtype


class RowCodec:
    """Reads and writes rows of the newest layout.

    >>> heads, panes, owner = CODEC.join([None])
    >>> CODEC.cut(heads, panes, owner) == [CODEC.blank]
    True
    """

    def __init__(self, vocabulary: Vocabulary, layout: RowLayout, number: int) -> None:
        self.vocabulary, self.layout = vocabulary, layout
        blank = np.zeros(1, layout.stored_head)
        blank["layout"] = number
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

    def join(self, rows: Sequence[bytes | None]) -> tuple[Heads, Panes, Ints]:
        """Rows as arrays: heads (n,), panes (p,), and the row index of each pane (p,), ascending.

        A missing row becomes a blank head without panes (birth -1).
        """
        return self._read([self.blank if row is None else row for row in rows])

    def _read(self, rows: Sequence[bytes]) -> tuple[Heads, Panes, Ints]:
        layout = self.layout
        size, n = layout.stored_head.itemsize, len(rows)
        stored = np.frombuffer(b"".join([row[:size] for row in rows]), layout.stored_head)
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


CODEC = RowCodec(VOCABULARY, LAYOUTS[LAYOUT], LAYOUT)
join, cut = CODEC.join, CODEC.cut
