"""Old rows and events to new rows, and the windows as of each step.

A step is something a user's history is judged at: an event; an exit, when a pane with something in it leaves a
window; a swap, when a new model version takes over; an end, when the user is erased or forgotten. All but events are
steps without measures: the same arrays, the same code. Who asks for a step (the user's next event, a sweep, a pass)
makes no difference to what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from state import affinity, recent_ids, windows
from state.layout import NEVER, Heads, Ints, Panes
from state.rows import CODEC, RowCodec
from state.vocabulary import ANY, Adds, Vocabulary

SESSION_GAP = 30 * 60_000  # ms without an event
HOUR_MS = 3_600_000
_STEP = np.int64(36)  # bits of a step's place within its row in a key
SWAP, EXIT, FORGOTTEN, ERASED = -1, -2, -3, -4  # in Steps.event
LIFETIME = ("carts", "orders", "sessions")
_SESSION_AS_ORDER = np.uint64(0x9E3779B97F4A7C15)  # keeps an order named by its session apart from a transaction


@dataclass(frozen=True, slots=True)
class Events:
    """Accepted events, not repeated, sorted by row and within a row in the applied order; n entries each."""

    row: Ints
    time: Ints  # ms
    watermark: Ints  # ms, before the event
    type: NDArray[np.int8]  # code, as the vocabulary has it
    amount: Ints  # minor units: price times quantity
    quantity: Ints
    session: NDArray[np.uint64]
    order: NDArray[np.uint64]
    category: NDArray[np.uint32]
    brand: NDArray[np.uint32]
    place: NDArray[np.uint32]  # (n, 3)
    block: Ints  # three-hour block of the shop's day, 0-7


@dataclass(frozen=True, slots=True)
class Steps:
    """s steps sorted by row and time."""

    row: Ints
    now: Ints  # ms: as of when the step is judged
    event: Ints  # index into the events; SWAP, EXIT, FORGOTTEN, ERASED
    late: NDArray[np.bool_]
    windows: NDArray[np.int64]  # (s, 4, measures) sums over the windows, measures in the order of the vocabulary
    hours: NDArray[np.int64]  # (s, 8) decayed events by block, of the day, as of the step
    ordinal: Ints  # of the event within the user's active hour, from 1; 0 for others
    lifetime: Ints  # (s, 3) carts, orders and sessions of the user so far, as of the step
    outcome: NDArray[np.bool_]  # a cart or an order


def measures(
    events: Events, new_session: NDArray[np.bool_], new_order: NDArray[np.bool_], vocabulary: Vocabulary
) -> Ints:
    """What each event adds: (n, measures), columns in the order of the vocabulary.

    new_session (n,): the event opens a session; new_order (n,): it is the first purchase of an order.
    """
    out = np.zeros((len(events.row), len(vocabulary.measures)), np.int64)
    # most lines of the table count the events of one type: all of them at once, by a lookup of the type's column
    counted = {line.event_type: line for line in reversed(vocabulary.table) if line.adds is Adds.ONE}
    column_of = np.full(vocabulary.other + 1, -1)
    for line in counted.values():
        if line.event_type != ANY:
            column_of[vocabulary.code(line.event_type)] = vocabulary.column(line.measure)
    column = column_of[events.type]
    at = np.flatnonzero(column >= 0)
    out[at, column[at]] = 1
    for line in vocabulary.table:
        if line.event_type == ANY or counted.get(line.event_type) is not line:
            value = _added(line.adds, events, new_session, new_order)
            if line.event_type != ANY:
                value = np.where(events.type == vocabulary.code(line.event_type), value, 0)
            out[:, vocabulary.column(line.measure)] += value
    return out


def _added(adds: Adds, events: Events, new_session: NDArray[np.bool_], new_order: NDArray[np.bool_]) -> NDArray[Any]:
    """What each event would add, (n,), were it of the right type."""
    match adds:
        case Adds.ONE:
            return np.ones(len(events.row), np.int64)
        case Adds.NEW_ORDER:
            return new_order
        case Adds.NEW_SESSION:
            return new_session
        case Adds.TAKEN_BACK:
            return events.quantity < 0
        case Adds.QUANTITY:
            return np.maximum(events.quantity, 0)
        case Adds.AMOUNT:
            return events.amount
        case Adds.MINUS_AMOUNT:
            return -np.abs(events.amount)
    assert_never(adds)


@dataclass(frozen=True, slots=True)
class Asked:
    """What rows are brought up to beside their events; r entries each."""

    swap: NDArray[np.bool_]  # a new version has to judge first, as of the larger of the row's clock and mark
    mark: int  # ms
    swept: int  # ms: exits up to here were decided before, never below mark
    until: Ints  # ms: exits up to here are decided, as are those up to the row's last event
    end: Ints  # ms: when the row ends, NEVER for most; no event of the row comes after
    ending: int = FORGOTTEN  # or ERASED

    @classmethod
    def by_events(cls, swap: NDArray[np.bool_], mark: int = 0, swept: int = 0) -> Asked:
        """What a batch asks: no more than its events."""
        never = np.full(len(swap), NEVER)
        return cls(swap, mark, swept, never, never)


def fold(
    heads: Heads, panes: Panes, owner: Ints, events: Events, asked: Asked, codec: RowCodec = CODEC
) -> tuple[Steps, Panes, Ints]:
    """Apply events to rows and bring them up to what is asked.

    heads (r,), panes (p,) and owner (p,): as the codec joins rows. heads are changed in place, but for the clock of
    rows without an event. Returns the steps, and the new panes and owners.
    """
    vocabulary = codec.vocabulary
    n, row = len(events.row), events.row
    first = np.flatnonzero(np.r_[True, row[1:] != row[:-1]]) if n else np.zeros(0, np.int64)
    end = np.r_[first[1:], n] if n else first
    touched = row[first]

    swap_rows = np.flatnonzero(asked.swap)
    swap_now = np.maximum(heads["clock"][swap_rows], asked.mark)
    clock = heads["clock"].copy()
    clock[swap_rows] = swap_now
    now = _running_max(np.maximum(np.maximum(events.time, events.watermark), clock[row]), first, end)
    latest = _running_max(np.maximum(events.time, heads["last"][row]), first, end)
    before = np.empty(n, np.int64)
    before[1:] = latest[:-1]
    before[first] = heads["last"][touched]

    new_session = recent_ids.first_sights(row, events.session, heads["sessions"])
    # NEVER plus the gap is still before all times, so a first event opens a session
    new_session |= (events.session == 0) & (events.time > before + SESSION_GAP)
    bought = (events.type == vocabulary.code("purchase")) & (events.quantity >= 0)
    by_session = np.where(events.session != 0, (events.session ^ _SESSION_AS_ORDER) | np.uint64(1), np.uint64(0))
    named = np.where(events.order != 0, events.order, by_session)
    order = np.where(bought, named, np.uint64(0))
    new_order = recent_ids.first_sights(row, order, heads["orders"]) | (bought & (order == 0))
    added = measures(events, new_session, new_order, vocabulary)

    unit = windows.UNIT
    start = events.time // unit
    decided = np.maximum(clock, asked.swept)
    upto = asked.until.copy()
    upto[touched] = np.maximum(upto[touched], now[end - 1])
    exit_row, exit_at = _exits(
        np.concatenate((owner, row)), np.concatenate((panes["start"].astype(np.int64), start)),
        np.concatenate((decided[owner], now)) // unit, upto // unit,
    )  # fmt: skip
    end_rows = np.flatnonzero(asked.end != NEVER)
    step_row, step_now, step_event, event_at, other_at = _in_order(
        row, now, (swap_rows, swap_now, SWAP), (exit_row, exit_at * unit, EXIT),
        (end_rows, asked.end[end_rows], asked.ending),
    )  # fmt: skip
    count = len(step_row)

    pane_row = owner
    stepping = np.searchsorted(step_row, pane_row)
    has_step = stepping < count
    has_step[has_step] = step_row[stepping[has_step]] == pane_row[has_step]
    old = codec.values(panes)
    join = np.concatenate((stepping[has_step], event_at))
    element_row = np.concatenate((pane_row[has_step], row))
    element_start = np.concatenate((panes["start"][has_step].astype(np.int64), start))
    element = np.concatenate((old[has_step], added))
    by_join = np.argsort(join, kind="stable")
    sums = windows.as_of(
        step_row, step_now // unit, element_row[by_join], element_start[by_join], join[by_join], element[by_join]
    )

    ordinal = _ordinals(heads, row, now, first, end)
    lifelong = vocabulary.columns(LIFETIME)
    lifetime = heads["totals"][step_row][:, lifelong]
    hours = heads["hours"][step_row].astype(np.int64)
    if n:
        last = end - 1
        hours[event_at] = affinity.add(heads, row, now, events.block, events.category, events.brand)
        grown = np.cumsum(added[:, lifelong], axis=0)
        grown -= np.repeat((grown - added[:, lifelong])[first], end - first, axis=0)
        lifetime[event_at] += grown
        if len(other_at):  # an exit has the hours of the event before it
            before_it = np.maximum.accumulate(np.where(step_event >= 0, np.arange(count), -1))[other_at]
            same = (before_it >= 0) & (step_row[before_it] == step_row[other_at])
            hours[other_at[same]] = hours[before_it[same]]
            lifetime[other_at[same]] = lifetime[before_it[same]]
        heads["clock"][touched] = now[last]
        heads["last"][touched] = latest[last]
        heads["totals"][touched] += np.add.reduceat(added, first, axis=0)
        for i in range(3):
            known = np.flatnonzero(events.place[:, i])
            heads["place"][row[known], i] = events.place[known, i]  # the last of a row wins
    step_ordinal = np.zeros(count, np.int64)
    step_ordinal[event_at] = ordinal
    step_late = np.zeros(count, bool)
    step_late[event_at] = start < now // unit
    step_outcome = np.zeros(count, bool)
    step_outcome[event_at] = (added[:, vocabulary.columns(("carts", "orders"))] > 0).any(1)
    steps = Steps(step_row, step_now, step_event, step_late, sums, hours, step_ordinal, lifetime, step_outcome)
    if not n:
        return steps, panes, owner
    whole_row = np.concatenate((pane_row, row))
    new_owner, kept_start, kept = windows.settle(
        whole_row,
        np.concatenate((panes["start"].astype(np.int64), start)),
        np.concatenate((old, added)),
        heads["clock"][whole_row] // unit,
    )
    return steps, codec.pack(kept_start, kept), new_owner


Others = tuple[Ints, Ints, int]  # rows, times (ms), what they are in Steps.event


def _in_order(
    row: Ints, now: Ints, swaps: Others, exits: Others, ends: Others
) -> tuple[Ints, Ints, Ints, Ints, Ints]:  # fmt: skip
    """Steps by row and time: row, time and event of each, where the events lie among them and where the others.

    row, now (n,): the events. A row's swap comes first; an exit before the events of its unit, an end after the exits.
    """
    n, unit = len(row), windows.UNIT
    event_key = (row << _STEP) | (now // unit << 2) | 2
    other_key = np.concatenate((
        swaps[0] << _STEP, (exits[0] << _STEP) | (exits[1] // unit << 2) | 1,
        (ends[0] << _STEP) | (ends[1] // unit << 2) | 3,
    ))  # fmt: skip
    by_key = np.argsort(other_key, kind="stable")
    other_key = other_key[by_key]
    event_at = np.arange(n) + np.searchsorted(other_key, event_key)
    other_at = np.arange(len(other_key)) + np.searchsorted(event_key, other_key)
    kinds = [kind for *_, kind in (swaps, exits, ends)]
    others = (
        np.concatenate((swaps[0], exits[0], ends[0])), np.concatenate((swaps[1], exits[1], ends[1])),
        np.repeat(kinds, (len(swaps[0]), len(exits[0]), len(ends[0]))),
    )  # fmt: skip
    out = []
    for mine, other in zip((row, now, np.arange(n)), others, strict=True):
        column = np.empty(n + len(other_key), np.int64)
        column[event_at], column[other_at] = mine, other[by_key]
        out.append(column)
    return out[0], out[1], out[2], event_at, other_at


def _exits(row: Ints, start: Ints, decided: Ints, upto: Ints) -> tuple[Ints, Ints]:
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
