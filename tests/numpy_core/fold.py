"""Old rows and events to new rows, and the windows as of each step.

A step is something a user's history is judged at: an event; an exit, when a pane with something in it leaves a
window; a swap, when a new model version takes over; an end, when the user is erased or forgotten. All but events are
steps without measures: the same arrays, the same code. Who asks for a step (the user's next event, a sweep, a pass)
makes no difference to what comes out.
"""

from __future__ import annotations

import numpy as np

from state.history import EXIT, HOUR_MS, LIFETIME, SWAP, Asked, Steps
from state.layout import NEVER, Heads, Ints
from tests.numpy_core import affinity, windows
from tests.numpy_core.events import Events, firsts, measures
from tests.numpy_core.rows import CODEC, Panes, RowCodec
from tests.numpy_core.step_order import StepOrder, copy_from_event_before, exits_due, in_order


def fold(
    heads: Heads, panes: Panes, owner: Ints, events: Events, asked: Asked, codec: RowCodec = CODEC
) -> tuple[Steps, Panes, Ints]:
    """Apply events to rows and bring them up to what is asked.

    heads (r,), panes (p,) and owner (p,): as the codec joins rows. heads are changed in place, but for the clock of
    rows without an event. Returns the steps, and the new panes and owners.
    """
    n, row, unit = len(events.row), events.row, windows.UNIT
    first = np.flatnonzero(np.r_[True, row[1:] != row[:-1]]) if n else np.zeros(0, np.int64)
    end = np.r_[first[1:], n] if n else first
    touched = row[first]

    swap_rows = np.flatnonzero(asked.swap)
    swap_now = np.maximum(heads["clock"][swap_rows], asked.mark)
    clock = heads["clock"].copy()
    clock[swap_rows] = swap_now
    now = _running_max(np.maximum(np.maximum(events.time, events.watermark), clock[row]), first, end)
    latest = _running_max(np.maximum(events.time, heads["last"][row]), first, end)
    before = np.empty(n, np.int64)  # the largest event time before each event
    before[1:] = latest[:-1]
    before[first] = heads["last"][touched]

    new_session, new_order = firsts(heads, events, before, codec.vocabulary.code("purchase"))
    added = measures(events, new_session, new_order, codec.vocabulary)

    start, pane_start = events.time // unit, panes["start"].astype(np.int64)
    whole_row, whole_start = np.concatenate((owner, row)), np.concatenate((pane_start, start))
    decided = np.maximum(clock, asked.swept)
    upto = asked.until.copy()
    upto[touched] = np.maximum(upto[touched], now[end - 1])
    exit_row, exit_at = exits_due(whole_row, whole_start, np.concatenate((decided[owner], now)) // unit, upto // unit)
    end_rows = np.flatnonzero(asked.end != NEVER)
    exits, ends = (exit_row, exit_at * unit, EXIT), (end_rows, asked.end[end_rows], asked.ending)
    order = in_order(row, now, (swap_rows, swap_now, SWAP), exits, ends)

    old = codec.values(panes)
    sums = _window_sums(order, owner, pane_start, old, row, start, added)
    ordinal = _ordinals(heads, row, now, first, end)
    lifelong = codec.vocabulary.columns(LIFETIME)
    lifetime = heads["totals"][order.row][:, lifelong]
    hours = heads["hours"][order.row].astype(np.int64)
    if n:
        hours[order.event_at] = affinity.add(heads, row, now, events.block, events.category, events.brand)
        grown = np.cumsum(added[:, lifelong], axis=0)
        grown -= np.repeat((grown - added[:, lifelong])[first], end - first, axis=0)
        lifetime[order.event_at] += grown
        copy_from_event_before(order, hours, lifetime)
        heads["clock"][touched] = now[end - 1]
        heads["last"][touched] = latest[end - 1]
        heads["totals"][touched] += np.add.reduceat(added, first, axis=0)
        for i in range(3):
            known = np.flatnonzero(events.place[:, i])
            heads["place"][row[known], i] = events.place[known, i]  # the last of a row wins

    count = len(order.row)
    step_ordinal, late, outcome = np.zeros(count, np.int64), np.zeros(count, bool), np.zeros(count, bool)
    step_ordinal[order.event_at] = ordinal
    late[order.event_at] = start < now // unit
    outcome[order.event_at] = (added[:, codec.vocabulary.columns(("carts", "orders"))] > 0).any(1)
    steps = Steps(order.row, order.now, order.event, late, sums, hours, step_ordinal, lifetime, outcome)
    if not n:
        return steps, panes, owner
    new_owner, kept_start, kept = windows.settle(
        whole_row, whole_start, np.concatenate((old, added)), heads["clock"][whole_row] // unit
    )
    return steps, codec.pack(kept_start, kept), new_owner


def _window_sums(
    order: StepOrder, owner: Ints, pane_start: Ints, old: Ints, row: Ints, start: Ints, added: Ints
) -> Ints:
    """Sums of each window as of each step, (s, 4, measures).

    owner, pane_start (p,), old (p, measures): the panes; row, start (n,), added (n, measures): the events. Panes count
    from their row's first step on, events from their own.
    """
    count = len(order.row)
    first_step = np.searchsorted(order.row, owner)
    has_step = first_step < count
    has_step[has_step] = order.row[first_step[has_step]] == owner[has_step]
    join = np.concatenate((first_step[has_step], order.event_at))
    element_row = np.concatenate((owner[has_step], row))
    element_start = np.concatenate((pane_start[has_step], start))
    element = np.concatenate((old[has_step], added))
    by_join = np.argsort(join, kind="stable")
    return windows.as_of(
        order.row,
        order.now // windows.UNIT,
        element_row[by_join],
        element_start[by_join],
        join[by_join],
        element[by_join],
    )


def _running_max(value: Ints, first: Ints, end: Ints) -> Ints:
    """Running maximum within each group [first, end)."""
    if not len(value):
        return value
    # groups lifted apart by more than the span of the values, so that one accumulation serves all
    low = int(value.min())
    span = int(value.max()) - low + 1
    lift = np.repeat(np.arange(len(first)), end - first) * span
    return np.maximum.accumulate(value - low + lift) - lift + low


def _ordinals(heads: Heads, row: Ints, now: Ints, first: Ints, end: Ints) -> Ints:
    """Which event of the user's active hour each is (from 1); keeps the count in the heads."""
    if not len(row):
        return np.zeros(0, np.int64)
    hour = now // HOUR_MS
    opens = np.r_[True, (row[1:] != row[:-1]) | (hour[1:] != hour[:-1])]
    start = np.flatnonzero(opens)
    length = np.diff(np.r_[start, len(row)])
    ordinal = np.arange(len(row)) - np.repeat(start, length) + 1
    going_on = (hour[start] == heads["hour"][row[start]]) & np.isin(start, first)
    ordinal += np.repeat(np.where(going_on, heads["hour_events"][row[start]].astype(np.int64), 0), length)
    ordinal = np.minimum(ordinal, 65_535)
    last = end - 1
    heads["hour"][row[last]] = hour[last]
    heads["hour_events"][row[last]] = ordinal[last]
    return ordinal
