"""The order of a row's steps: events, exits, swaps and ends by the time they are judged as of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from state.layout import Ints
from tests.numpy_core import windows

_STEP = np.int64(36)  # bits of a step's place within its row in a key
Others = tuple[Ints, Ints, int]  # rows, times (ms), what they are in Steps.event


class StepOrder(NamedTuple):
    """Steps by row and time: s of them, of which n are events."""

    row: Ints  # (s,)
    now: Ints  # (s,) ms
    event: Ints  # (s,) as in Steps
    event_at: Ints  # (n,) where the events lie among the steps
    other_at: Ints  # (s - n,) where the others lie


def in_order(row: Ints, now: Ints, swaps: Others, exits: Others, ends: Others) -> StepOrder:
    """All steps by row and time; row, now (n,): the events.

    A row's swap comes first; an exit before the events of its unit; an end after the exits.
    """
    n, unit = len(row), windows.UNIT
    event_key = (row << _STEP) | (now // unit << 2) | 2
    exit_key = (exits[0] << _STEP) | (exits[1] // unit << 2) | 1
    end_key = (ends[0] << _STEP) | (ends[1] // unit << 2) | 3
    other_key = np.concatenate((swaps[0] << _STEP, exit_key, end_key))
    by_key = np.argsort(other_key, kind="stable")
    other_key = other_key[by_key]
    event_at = np.arange(n) + np.searchsorted(other_key, event_key)
    other_at = np.arange(len(other_key)) + np.searchsorted(event_key, other_key)
    other_row, other_now = (np.concatenate((swaps[i], exits[i], ends[i])) for i in (0, 1))
    kind = np.repeat([swaps[2], exits[2], ends[2]], [len(swaps[0]), len(exits[0]), len(ends[0])])
    columns = []
    for of_events, of_others in ((row, other_row), (now, other_now), (np.arange(n), kind)):
        column = np.empty(n + len(other_key), np.int64)
        column[event_at], column[other_at] = of_events, of_others[by_key]
        columns.append(column)
    return StepOrder(columns[0], columns[1], columns[2], event_at, other_at)


def copy_from_event_before(order: StepOrder, *columns: Ints) -> None:
    """Steps that are no events have the values of the event before them in their row, if there is one; in place."""
    if len(order.other_at):
        events = np.where(order.event >= 0, np.arange(len(order.row)), -1)
        before = np.maximum.accumulate(events)[order.other_at]
        same = (before >= 0) & (order.row[before] == order.row[order.other_at])
        for column in columns:
            column[order.other_at[same]] = column[before[same]]


def exits_due(row: Ints, start: Ints, decided: Ints, upto: Ints) -> tuple[Ints, Ints]:
    """The exits to decide, each edge of a row once: rows and edges (units), ascending.

    row, start (e,): panes and events; decided (e,): edges up to there are done with; upto (r,): nor are later ones.
    """
    due_row: list[Ints] = []
    due: list[Ints] = []
    last = upto[row]
    at = np.flatnonzero(last > decided)  # most rows' events follow each other within a pane
    if not len(at):
        return row[:0], start[:0]
    row, decided, last = row[at], decided[at], last[at]
    for edge in windows.exits(start[at]):
        found = np.flatnonzero((edge > decided) & (edge <= last))
        due_row.append(row[found])
        due.append(edge[found])
    key = np.unique((np.concatenate(due_row) << _STEP) | np.concatenate(due))
    return key >> _STEP, key & ((1 << int(_STEP)) - 1)
