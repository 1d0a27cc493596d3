"""Decayed affinities: whole counts that are halved at the edge of each week, so that no split of a stream matters.

A float that decays with every event would depend on how the stream was cut into batches; a count that is shifted right
once a week does not. Weeks are those of the epoch, in UTC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from state.compiled import compiled

WEEK = 7 * 24 * 3_600_000  # ms
COUNT_LIMIT = 65_535  # of a count


@compiled
def count_event(head: Any, now: int, block: int, category: int, brand: int) -> None:
    """Count an event into a head, in place.

    now (ms) never falls; block: three-hour block (0-7) of the shop's day; category, brand: hashes, 0 for none.
    """
    _halve(head, now // WEEK)
    hours = head["hours"]
    hours[block] = min(hours[block] + 1, COUNT_LIMIT)
    _count_value(head["category"], head["category_weight"], category)
    _count_value(head["brand"], head["brand_weight"], brand)


@compiled
def _halve(head: Any, week: int) -> None:
    """Halve the counts once for each week that has begun since the event before."""
    weeks = min(week - int(head["epoch"]), 16)  # nothing is left of 16 bits after 16
    if weeks <= 0:
        return
    _shift(head["hours"], weeks)
    _shift(head["category_weight"], weeks)
    _shift(head["brand_weight"], weeks)
    head["epoch"] = week


@compiled
def _shift(counts: NDArray[np.uint16], weeks: int) -> None:
    for i in range(len(counts)):
        counts[i] = int(counts[i]) >> weeks


@compiled
def _count_value(values: NDArray[np.uint32], weights: NDArray[np.uint16], value: int) -> None:
    """A value that is held gains weight; another one takes the place of the lightest (of equals, of the first)."""
    if value == 0:
        return
    lightest = 0
    for i in range(len(values)):
        if values[i] == value:
            weights[i] = min(int(weights[i]) + 1, COUNT_LIMIT)
            return
        if weights[i] < weights[lightest]:
            lightest = i
    values[lightest] = value
    weights[lightest] = 1
