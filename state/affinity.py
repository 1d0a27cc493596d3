"""Decayed affinities: whole counts that are halved at the edge of each week, so that no split of a stream matters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.layout import Heads, Ints

WEEK = 7 * 24 * 3_600_000  # ms
_LIMIT = 65_535
_WEIGHTS = ("hours", "category_weight", "brand_weight")


def add(
    heads: Heads, row: Ints, now: Ints, block: Ints, category: NDArray[np.uint32], brand: NDArray[np.uint32]
) -> Ints:
    """Count events into the heads, in place; returns the hours as of each event, (n, 8).

    row (n,) ascending; now (ms) never falling within a row;
    block: three-hour block (0-7) of the shop's day; category and brand: hashes, 0 none.
    """
    week = now // WEEK
    hours = np.zeros((len(row), 8), np.int64)
    changed = np.r_[True, (row[1:] != row[:-1]) | (week[1:] != week[:-1])]
    starts_row = np.r_[True, row[1:] != row[:-1]]
    group = np.cumsum(changed) - 1
    round_of = (group - np.maximum.accumulate(np.where(starts_row, group, 0)))[: len(row)]
    for i in range(int(round_of.max()) + 1 if len(row) else 0):  # more than one only where a row crosses a week
        at = np.flatnonzero(round_of == i)
        r = row[at]
        head = np.flatnonzero(np.r_[True, r[1:] != r[:-1]])
        _decay(heads, r[head], week[at][head])
        one = np.zeros((len(at) + 1, 8), np.int64)
        one[np.arange(1, len(at) + 1), block[at]] = 1
        count = np.cumsum(one, axis=0)
        length = np.diff(np.r_[head, len(at)])
        so_far = heads["hours"][r] + count[1:] - np.repeat(count[head], length, axis=0)
        hours[at] = np.minimum(so_far, _LIMIT)
        heads["hours"][r[head]] = hours[at[head + length - 1]]
        _slots(heads["category"], heads["category_weight"], r, category[at])
        _slots(heads["brand"], heads["brand_weight"], r, brand[at])
    return hours


def _decay(heads: Heads, rows: Ints, week: Ints) -> None:
    shift = np.minimum(week - heads["epoch"][rows], 16).astype(np.uint16)
    old = np.flatnonzero(shift)
    if len(old):
        rows, by = rows[old], shift[old, None]
        for name in _WEIGHTS:
            heads[name][rows] = np.right_shift(heads[name][rows].astype(np.uint32), by)
        heads["epoch"][rows] = week[old]


def _slots(slots: NDArray[np.uint32], weights: NDArray[np.uint16], row: Ints, value: NDArray[np.uint32]) -> None:
    """Four slots a row: a value held gains weight, another takes the weakest slot (the lowest of equals)."""
    at = np.flatnonzero(value)
    if not len(at):
        return
    row, value = row[at], value[at]
    run = np.flatnonzero(np.r_[True, (row[1:] != row[:-1]) | (value[1:] != value[:-1])])
    weight = np.diff(np.r_[run, len(row)])
    row, value = row[run], value[run]
    start = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    rank = np.arange(len(row)) - np.repeat(start, np.diff(np.r_[start, len(row)]))
    for i in range(int(rank.max()) + 1):
        k = np.flatnonzero(rank == i)
        if len(k) < 8:  # few long rows are left: a loop costs less than an array a round
            for j in np.flatnonzero(rank >= i).tolist():
                _one(slots[row[j]], weights[row[j]], value[j], int(weight[j]))
            return
        r = row[k]
        held = slots[r] == value[k][:, None]
        place = np.where(held.any(1), held.argmax(1), weights[r].argmin(1))
        gained = np.where(held.any(1), weights[r, place].astype(np.int64), 0) + weight[k]
        slots[r, place] = value[k]
        weights[r, place] = np.minimum(gained, _LIMIT)


def _one(slots: NDArray[np.uint32], weights: NDArray[np.uint16], value: np.uint32, weight: int) -> None:
    held = np.flatnonzero(slots == value)
    place = int(held[0]) if len(held) else int(weights.argmin())
    before = int(weights[place]) if len(held) else 0
    slots[place] = value
    weights[place] = min(before + weight, _LIMIT)
