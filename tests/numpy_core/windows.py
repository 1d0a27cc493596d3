"""Sums over sliding windows as of every step, and which panes a row still needs.

A window of length W on panes of length p, as of T, covers [floor(T/p)*p - W, T]. All times here are in units
of five minutes, the finest pane. A pane joins its row's sums at one step and leaves each window at a later
one, since the bounds of a row's steps never go back: a difference array and a cumulative sum give every
window as of every step, late events included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.layout import Ints

UNIT = 300_000  # ms, five minutes
HOUR, DAY = 12, 288  # in units
WINDOWS = ("1h", "24h", "7d", "30d")
SPANS = ((1, 12), (HOUR, 24 * HOUR), (HOUR, 7 * DAY), (DAY, 30 * DAY))  # pane, length
NEVER = np.int64(1) << 40  # an edge that does not come
_ROW = np.int64(34)  # bits of a pane's start in a (row, start) key; holds 160 thousand years


def bounds(now: Ints) -> list[Ints]:
    """The first pane inside each window as of now (units)."""
    return [now // pane * pane - length for pane, length in SPANS]


def exits(start: Ints) -> Ints:
    """The edge at which a pane that starts at start (p,) leaves each window: (4, p), ascending down a column."""
    number = {pane: start // pane for pane, _ in SPANS}  # divisions are what this costs
    return np.stack([(number[pane] + (length // pane + 1)) * pane for pane, length in SPANS])


def next_exit(start: Ints, after: Ints) -> Ints:
    """The first edge after `after` at which a pane leaves a window, (p,); NEVER where it has left all."""
    edges = exits(start)
    out = np.where(edges[-1] > after, edges[-1], NEVER)
    for edge in edges[-2::-1]:
        np.copyto(out, edge, where=edge > after)
    return out


def as_of(step_row: Ints, step_now: Ints, row: Ints, start: Ints, join: Ints, measures: Ints) -> NDArray[np.int64]:
    """Sums of each window as of each step: (s, 4, m) int64.

    step_row (s,) ascending and step_now (s,) in units, never falling within a row; elements (panes and
    events): row, start (units), join (the step from which it counts), measures (e, m). join is ascending.
    """
    steps, width = len(step_row), measures.shape[1]
    out = np.empty((steps, len(SPANS), width), np.int64)
    if not steps:
        return out
    first = np.flatnonzero(np.r_[True, step_row[1:] != step_row[:-1]])
    group = np.cumsum(np.r_[True, step_row[1:] != step_row[:-1]]) - 1
    begin = first[group]
    joined = _running(join, measures, steps)
    base = joined[begin]  # what had joined before the row's first step
    inside = joined[1:] - base
    step_key = step_row << _ROW
    key = (row << _ROW) | start
    end = np.r_[first[1:], steps][group[join]] if len(join) else join
    for i, bound in enumerate(bounds(step_now)):
        leave = np.maximum(np.searchsorted(step_key | np.maximum(bound, 0), key, "right"), join)
        going = np.flatnonzero(leave < end)
        if len(going):
            going = going[np.argsort(leave[going], kind="stable")]
            left = _running(leave[going], measures[going], steps)
            np.subtract(inside, left[1:] - left[begin], out=out[:, i])
        else:
            out[:, i] = inside
    return out


def _running(at: Ints, measures: Ints, steps: int) -> Ints:
    """Cumulative sums over steps, (steps + 1, m): row i sums the elements with at < i; at ascending."""
    total = np.zeros((len(at) + 1, measures.shape[1]), np.int64)
    np.cumsum(measures, axis=0, out=total[1:])
    count = np.zeros(steps + 1, np.int64)
    np.cumsum(np.bincount(at, minlength=steps)[:steps], out=count[1:])
    return total[count]


def settle(row: Ints, start: Ints, measures: Ints, now: Ints) -> tuple[Ints, Ints, Ints]:
    """Merge panes to the coarsest pane that still serves the windows as of now (units, per element's row).

    A pane that the finest window has left merges into its hour, later into its day, and is dropped after the
    last. Returns row, start, measures sorted by (row, start), one element a pane.
    """
    hour = start // HOUR * HOUR
    coarse = np.where(hour >= now // HOUR * HOUR - 7 * DAY, hour, start // DAY * DAY)
    level = np.where(start >= now - 12, start, coarse)
    keep = level >= now // DAY * DAY - 30 * DAY
    key = ((row << _ROW) | level)[keep]
    order = np.argsort(key, kind="stable")
    key = key[order]
    if not len(key):
        return key, key, measures[:0]
    head = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    sums = np.add.reduceat(measures[keep][order], head, axis=0)
    unique = key[head]
    return unique >> _ROW, unique & ((1 << int(_ROW)) - 1), sums
