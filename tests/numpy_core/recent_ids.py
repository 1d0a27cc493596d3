"""Which ids are new: a row remembers its last K, and a batch must answer as a loop over its events would.

Used for event ids (a record that is read twice counts once), sessions and orders.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.layout import Ints

Bools = NDArray[np.bool_]
Hashes = NDArray[np.uint64]


def first_sights(row: Ints, ids: Hashes, recent: Hashes) -> Bools:
    """Mark the events whose id the row does not remember, (n,), and update what it remembers.

    row (n,): index into recent, ascending; ids (n,), 0 for none (never new); recent (rows, K), newest first, changed in
    place: a new id is pushed in front and the oldest falls out; an id seen again keeps its place.

    >>> recent = np.array([[7, 0]], np.uint64)
    >>> first_sights(np.zeros(3, np.int64), np.array([7, 8, 8], np.uint64), recent).tolist(), recent.tolist()
    ([False, True, False], [[8, 7]])
    """
    new = np.zeros(len(row), bool)
    at = np.flatnonzero(ids != 0)
    if not len(at):
        return new
    in_row, ident = row[at], ids[at]
    size = recent.shape[1]
    order = np.lexsort((ident, in_row))  # stable: equal (row, id) stay in the order of their events
    fresh = np.ones(len(at), bool)
    fresh[1:] = (in_row[order][1:] != in_row[order][:-1]) | (ident[order][1:] != ident[order][:-1])
    first = order[fresh]  # the first event in the batch of each (row, id)
    group = np.cumsum(fresh) - 1
    first_of = np.empty(len(at), np.int64)  # of each event: the first one with its (row, id)
    first_of[order] = first[group]
    match = recent[in_row[first]] == ident[first][:, None]
    place = np.where(match.any(1), match.argmax(1), -1)  # where the row already holds it
    candidate = np.zeros(len(at), bool)
    candidate[first] = place < 0
    pushes = np.bincount(in_row[candidate], minlength=len(recent))
    # An answer taken from the batch as a whole holds for a row if nothing that is looked up again has been
    # pushed out by then: an old id at place p survives p' pushes if p + p' < K; of the batch's own, the last K.
    place_of = np.full(len(at), -1)
    place_of[first] = place
    place_of = place_of[first_of]
    count = np.cumsum(candidate)
    row_end = np.searchsorted(in_row, in_row, "right") - 1
    pushes_after = count[row_end] - count[first_of]  # in the row, after the id's own
    again = ~candidate
    lost = again & np.where(place_of >= 0, place_of + pushes[in_row] >= size, pushes_after >= size)
    unsafe = np.unique(in_row[lost])
    if len(unsafe):
        safe = ~np.isin(in_row, unsafe)
        for number in unsafe.tolist():
            _replay(np.flatnonzero(in_row == number), ident, recent[number], candidate)
        in_row, ident, pushed = in_row[safe], ident[safe], candidate[safe]
    else:
        pushed = candidate
    new[at] = candidate
    _push(in_row[pushed], ident[pushed], recent)
    return new


def _replay(events: Ints, ids: Hashes, recent: Hashes, new: Bools) -> None:
    """The plain loop, for a row whose memory turns over within the batch; recent (K,) and new (n,) in place."""
    memory = recent.tolist()
    for i in events.tolist():
        known = int(ids[i]) in memory
        new[i] = not known
        if not known:
            memory = [int(ids[i]), *memory[:-1]]
    recent[:] = memory


def _push(row: Ints, ids: Hashes, recent: Hashes) -> None:
    """Push ids (in order of events, row ascending) in front of their rows' memory, in place."""
    if not len(row):
        return
    rows, start, count = np.unique(row, return_index=True, return_counts=True)
    size = recent.shape[1]
    column = np.arange(size)[None, :]
    taken = np.minimum(count, size)[:, None]
    last = (start + count - 1)[:, None]
    from_batch = ids[np.maximum(last - column, start[:, None])]
    shifted = np.take_along_axis(recent[rows], np.maximum(column - taken, 0), 1)
    recent[rows] = np.where(column < taken, from_batch, shifted)
