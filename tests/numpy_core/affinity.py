"""Decayed affinities: whole counts that are halved at the edge of each week, so that no split of a stream matters.

A float that decays with every event would depend on how the stream was cut into batches; a count that is shifted right
once a week does not. Weeks are those of the epoch, in UTC.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.layout import Heads, Ints

WEEK = 7 * 24 * 3_600_000  # ms
_LIMIT = 65_535  # of a count
_COUNTS = ("hours", "category_weight", "brand_weight")  # fields of the head that decay
_FEW = 8  # rows from which on a loop over them costs less than arrays


def add(
    heads: Heads, row: Ints, now: Ints, block: Ints, category: NDArray[np.uint32], brand: NDArray[np.uint32]
) -> Ints:
    """Count events into the heads, in place; returns the hours as of each event, (n, 8).

    row (n,): index into heads, ascending; now (n,), ms, never falling within a row; block (n,): three-hour block (0-7)
    of the shop's day; category and brand (n,): hashes, 0 none. A count stops at 65,535.
    """
    week = now // WEEK
    hours = np.zeros((len(row), 8), np.int64)
    opens_row = np.r_[True, row[1:] != row[:-1]]
    opens_week = np.r_[True, (row[1:] != row[:-1]) | (week[1:] != week[:-1])]
    group = np.cumsum(opens_week) - 1
    # which week of its row each event is in: more than one round only where a row crosses a week within the batch
    round_of = (group - np.maximum.accumulate(np.where(opens_row, group, 0)))[: len(row)]
    for number in range(int(round_of.max()) + 1 if len(row) else 0):
        at = np.flatnonzero(round_of == number)
        in_row = row[at]
        first = np.flatnonzero(np.r_[True, in_row[1:] != in_row[:-1]])
        _decay(heads, in_row[first], week[at][first])
        counted = np.zeros((len(at) + 1, 8), np.int64)
        counted[np.arange(1, len(at) + 1), block[at]] = 1
        running = np.cumsum(counted, axis=0)
        length = np.diff(np.r_[first, len(at)])
        so_far = heads["hours"][in_row] + running[1:] - np.repeat(running[first], length, axis=0)
        hours[at] = np.minimum(so_far, _LIMIT)
        heads["hours"][in_row[first]] = hours[at[first + length - 1]]
        _add_to_slots(heads["category"], heads["category_weight"], in_row, category[at])
        _add_to_slots(heads["brand"], heads["brand_weight"], in_row, brand[at])
    return hours


def _decay(heads: Heads, rows: Ints, week: Ints) -> None:
    """Halve the counts of rows once for each week that has begun since they were touched last, in place."""
    weeks = np.minimum(week - heads["epoch"][rows], 16).astype(np.uint16)  # nothing is left of 16 bits after 16
    old = np.flatnonzero(weeks)
    if len(old):
        rows, shift = rows[old], weeks[old, None]
        for name in _COUNTS:
            heads[name][rows] = np.right_shift(heads[name][rows].astype(np.uint32), shift)
        heads["epoch"][rows] = week[old]


def _add_to_slots(slots: NDArray[np.uint32], weights: NDArray[np.uint16], row: Ints, value: NDArray[np.uint32]) -> None:
    """Four slots a row, in place: a value that is held gains weight, another takes the weakest slot (the lowest of
    equals)."""
    at = np.flatnonzero(value)
    if not len(at):
        return
    row, value = row[at], value[at]
    run = np.flatnonzero(np.r_[True, (row[1:] != row[:-1]) | (value[1:] != value[:-1])])
    weight = np.diff(np.r_[run, len(row)])
    row, value = row[run], value[run]
    start = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    rank = np.arange(len(row)) - np.repeat(start, np.diff(np.r_[start, len(row)]))
    for number in range(int(rank.max()) + 1):  # the first run of every row, then the second: their order counts
        in_round = np.flatnonzero(rank == number)
        if len(in_round) < _FEW:
            for i in np.flatnonzero(rank >= number).tolist():
                _add_to_row(slots[row[i]], weights[row[i]], value[i], int(weight[i]))
            return
        of_row = row[in_round]
        held = slots[of_row] == value[in_round][:, None]
        place = np.where(held.any(1), held.argmax(1), weights[of_row].argmin(1))
        gained = np.where(held.any(1), weights[of_row, place].astype(np.int64), 0) + weight[in_round]
        slots[of_row, place] = value[in_round]
        weights[of_row, place] = np.minimum(gained, _LIMIT)


def _add_to_row(slots: NDArray[np.uint32], weights: NDArray[np.uint16], value: np.uint32, weight: int) -> None:
    """The same for one row, slots (4,)."""
    held = np.flatnonzero(slots == value)
    place = int(held[0]) if len(held) else int(weights.argmin())
    before = int(weights[place]) if len(held) else 0
    slots[place] = value
    weights[place] = min(before + weight, _LIMIT)
