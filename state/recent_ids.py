"""Which ids are new: a row remembers its last K, and a batch must answer as a loop over its events would."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.layout import Ints

Bools = NDArray[np.bool_]
Hashes = NDArray[np.uint64]


def first_sights(row: Ints, ids: Hashes, recent: Hashes) -> Bools:
    """Mark the events whose id the row does not remember, and update what it remembers.

    row (n,) ascending, ids (n,) with 0 for none (never new), recent (rows, K) newest first, changed in place:
    a new id is pushed in front and the oldest falls out; an id seen again keeps its place.
    """
    new = np.zeros(len(row), bool)
    at = np.flatnonzero(ids != 0)
    if not len(at):
        return new
    r, x = row[at], ids[at]
    size = recent.shape[1]
    order = np.lexsort((x, r))  # stable: equal (row, id) stay in the order of their events
    fresh = np.ones(len(at), bool)
    fresh[1:] = (r[order][1:] != r[order][:-1]) | (x[order][1:] != x[order][:-1])
    head = order[fresh]  # first occurrence in the batch of each (row, id)
    group = np.cumsum(fresh) - 1
    first_of = np.empty(len(at), np.int64)
    first_of[order] = head[group]
    match = recent[r[head]] == x[head][:, None]
    place = np.where(match.any(1), match.argmax(1), -1)  # where the row already holds it
    candidate = np.zeros(len(at), bool)
    candidate[head] = place < 0
    pushes = np.bincount(r[candidate], minlength=len(recent))
    # An answer taken from the batch as a whole holds for a row if nothing that is looked up again has been
    # pushed out by then: an old id at place p survives p' pushes if p + p' < K; of the batch's own, the last K.
    place_of = np.full(len(at), -1)
    place_of[head] = place
    place_of = place_of[first_of]
    count = np.cumsum(candidate)
    row_end = np.searchsorted(r, r, "right") - 1
    rank_from_end = count[row_end] - count[first_of]  # pushes after the id's own
    again = ~candidate
    lost = again & np.where(place_of >= 0, place_of + pushes[r] >= size, rank_from_end >= size)
    unsafe = np.unique(r[lost])
    if len(unsafe):
        keep = ~np.isin(r, unsafe)
        for one in unsafe.tolist():
            _replay(np.flatnonzero(r == one), x, recent[one], candidate)
        r, x, candidate_safe = r[keep], x[keep], candidate[keep]
    else:
        candidate_safe = candidate
    new[at] = candidate
    _push(r[candidate_safe], x[candidate_safe], recent)
    return new


def _replay(events: Ints, ids: Hashes, recent: Hashes, new: Bools) -> None:
    """The plain loop, for a row whose memory turns over within the batch."""
    memory = recent.tolist()
    for i in events.tolist():
        known = int(ids[i]) in memory
        new[i] = not known
        if not known:
            memory = [int(ids[i]), *memory[:-1]]
    recent[:] = memory


def _push(row: Ints, ids: Hashes, recent: Hashes) -> None:
    """Push ids (in order of events, row ascending) in front of their rows' memory."""
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
