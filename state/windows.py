"""Sums over sliding windows of one user's panes, and which panes a row still needs.

A pane is a span of event time in which something happened. A window of length W on panes of length p, as of T, covers
[floor(T/p)*p - W, T]. All times here are in units of five minutes, the finest pane.

The panes of a user lie in the order of their starts, so each window holds the panes from a first one on. As time goes
on, that first pane moves forward, and what it passes is subtracted from the sums of the window.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from state.compiled import compiled
from state.layout import Ints

UNIT = 300_000  # ms, five minutes
HOUR, DAY = 12, 288  # in units
WINDOWS = ("1h", "24h", "7d", "30d")
SPANS = ((1, HOUR), (HOUR, 24 * HOUR), (HOUR, 7 * DAY), (DAY, 30 * DAY))  # pane, length
NO_EDGE = 1 << 40  # an edge that does not come


@cache
def window_type(measures: int) -> np.dtype[np.void]:
    """What is known of a window: its first pane, and the sums of the panes from there on."""
    return np.dtype([("first", "i8"), ("sums", "i8", measures)])


@compiled
def bounds(now: Any) -> Any:
    """The first start that is inside each window as of now (units)."""
    hour, day = now // HOUR * HOUR, now // DAY * DAY
    return now - HOUR, hour - 24 * HOUR, hour - 7 * DAY, day - 30 * DAY


@compiled
def edges(start: Any) -> Any:
    """When a pane that starts at start (units) leaves each window."""
    hour, day = start // HOUR * HOUR, start // DAY * DAY
    return start + HOUR + 1, hour + 25 * HOUR, hour + 7 * DAY + HOUR, day + 31 * DAY


@compiled
def add(total: Ints, value: Ints) -> None:
    """Add measures, in place."""
    for m in range(len(total)):
        total[m] += value[m]


@compiled
def subtract(total: Ints, value: Ints) -> None:
    """Subtract measures, in place."""
    for m in range(len(total)):
        total[m] -= value[m]


@compiled
def copy(into: Ints, value: Ints) -> None:
    """Copy measures."""
    for m in range(len(into)):
        into[m] = value[m]


@compiled
def enter(windows: Any, panes: Any, size: int, now: int) -> None:
    """Set the windows of a user with `size` panes up as of now."""
    pane = size - 1
    bound = bounds(now)
    for w in range(4):
        window = windows[w]
        if w:  # a longer window holds all that a shorter one holds
            copy(window["sums"], windows[w - 1]["sums"])
        else:
            window["sums"][:] = 0
        while pane >= 0 and panes[pane]["start"] >= bound[w]:
            add(window["sums"], panes[pane]["measures"])
            pane -= 1
        window["first"] = pane + 1


@compiled
def advance(windows: Any, panes: Any, size: int, now: int) -> None:
    """Bring the windows up to now: what starts before the bound of a window leaves it."""
    bound = bounds(now)
    for w in range(4):
        window = windows[w]
        first = window["first"]
        while first < size and panes[first]["start"] < bound[w]:
            subtract(window["sums"], panes[first]["measures"])
            first += 1
        window["first"] = first


@compiled
def next_edge(windows: Any, panes: Any, size: int) -> int:
    """The next edge at which a pane leaves a window; NO_EDGE where none does."""
    soonest = NO_EDGE
    for w in range(4):
        first = windows[w]["first"]
        if first < size:
            soonest = min(soonest, edges(panes[first]["start"])[w])
    return soonest


@compiled
def add_event(windows: Any, panes: Any, size: int, start: int, now: int, added: Ints) -> int:
    """Add an event's measures to its pane, which may be a new one, and to the windows that it is inside as of now.
    Returns the number of panes."""
    bound = bounds(now)
    place = size
    while place > 0 and panes[place - 1]["start"] >= start:
        place -= 1
    if place < size and panes[place]["start"] == start:
        add(panes[place]["measures"], added)
    else:
        for i in range(size, place, -1):
            panes[i]["start"] = panes[i - 1]["start"]
            copy(panes[i]["measures"], panes[i - 1]["measures"])
        panes[place]["start"] = start
        copy(panes[place]["measures"], added)
        size += 1
        for w in range(4):
            if start < bound[w]:
                windows[w]["first"] += 1
    for w in range(4):
        if start >= bound[w]:
            add(windows[w]["sums"], added)
    return size


@compiled
def settle(panes: Any, size: int, now: int) -> int:
    """Merge panes, in place, to the coarsest that still serve the windows as of now; returns how many are left.

    A pane that the finest window has left merges into its hour, later into its day, and is dropped after the last.
    """
    hour_bound, day_bound = now // HOUR * HOUR - 7 * DAY, now // DAY * DAY - 30 * DAY
    left = 0
    for i in range(size):
        start = panes[i]["start"]
        if start < now - HOUR:
            hour = start // HOUR * HOUR
            start = hour if hour >= hour_bound else start // DAY * DAY
        if start < day_bound:
            continue
        if left and panes[left - 1]["start"] == start:
            add(panes[left - 1]["measures"], panes[i]["measures"])
        else:
            panes[left]["start"] = start
            copy(panes[left]["measures"], panes[i]["measures"])
            left += 1
    return left
