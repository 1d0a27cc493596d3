"""One user's events, one after the other: the old row in, the new row and the steps out.

A step is a moment at which a user's history is judged: an event; an exit, when a pane leaves a window; a swap, when a
new model version takes over; an end, when the user is erased or forgotten. Who asks for a step (the user's next event,
a sweep, the pass after a swap) makes no difference to what comes out. `_history_of_user` is the loop that does it all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state import affinity
from state.compiled import compiled
from state.layout import NEVER, Ints
from state.measures import MeasureTable, measure, table_of
from state.recent_ids import NO_ID, remember
from state.row_bytes import Bytes, RowFormat, pane_type, read_panes, write_panes
from state.rows import CODEC, RowCodec, Rows
from state.vocabulary import Vocabulary
from state.windows import UNIT, add, add_event, advance, enter, next_edge, settle, window_type

HOUR_MS = 3_600_000
SESSION_GAP = 30 * 60_000  # ms without an event that end a session
SWAP, EXIT, FORGOTTEN, ERASED = -1, -2, -3, -4  # in Steps.event: steps that are no events
LIFETIME = ("carts", "orders", "sessions")  # measures whose sums over the user's life every step carries
COUNT_LIMIT = 65_535
_SESSION_AS_ORDER = np.uint64(0x9E3779B97F4A7C15)  # keeps an order named by its session apart from a transaction
_ONE = np.uint64(1)


class Events(NamedTuple):
    """Accepted events in the applied order; n entries each."""

    time: Ints  # ms
    watermark: Ints  # ms, before the event
    type: NDArray[np.int8]  # code, as the vocabulary has it
    amount: Ints  # minor units: price times quantity
    quantity: Ints
    event_id: NDArray[np.uint64]
    session: NDArray[np.uint64]
    order: NDArray[np.uint64]
    category: NDArray[np.uint32]
    brand: NDArray[np.uint32]
    place: NDArray[np.uint32]  # (n, 3)
    block: Ints  # three-hour block of the shop's day, 0-7
    ordinal: Ints  # of the event in its partition


class Asked(NamedTuple):
    """What rows are brought up to beside their events; r entries each."""

    swap: NDArray[np.bool_]  # a new version has to judge first, as of the larger of the row's clock and mark
    mark: int  # ms
    swept: int  # ms: exits up to here were decided before, never below mark
    until: Ints  # ms: exits up to here are decided, as are those up to the row's last event
    end: Ints  # ms: when the row ends, NEVER for most; no event of the row comes after
    ending: int  # FORGOTTEN or ERASED
    by_events: bool = False  # rows without an event that is no repeat are left as they are


def asked_by_events(swap: NDArray[np.bool_], mark: int = 0, swept: int = 0) -> Asked:
    """What a batch asks: no more than its events."""
    never = np.full(len(swap), NEVER)
    return Asked(swap, mark, swept, never, never, FORGOTTEN, True)


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


@dataclass(frozen=True, slots=True)
class History:
    """What became of r rows."""

    rows: Rows
    steps: Steps
    touched: NDArray[np.bool_]  # (r,) rows with an event that is not a repeat
    due_before: Ints  # (r,) units: the next edge at which a pane leaves a window, after what was decided before
    due_after: Ints  # (r,) the same after the last step


class _Columns(NamedTuple):
    """What the loop has to know of a vocabulary."""

    measures: MeasureTable
    purchase: int  # code of the type
    carts: int  # columns
    orders: int
    lifetime: Ints


@cache
def _columns_of(vocabulary: Vocabulary) -> _Columns:
    return _Columns(
        table_of(vocabulary),
        vocabulary.code("purchase"),
        vocabulary.column("carts"),
        vocabulary.column("orders"),
        np.array(vocabulary.columns(LIFETIME), np.int64),
    )


@compiled
def events_by_row(row_of: Ints, rows: int) -> tuple[Ints, Ints]:
    """The events of each of so many rows, in their order: by_row and first_event of apply().

    row_of (n,): the row of each event, -1 for one that is left out.
    """
    first_event = np.zeros(rows + 1, np.int64)
    for row in row_of:
        if row >= 0:
            first_event[row + 1] += 1
    for row in range(rows):
        first_event[row + 1] += first_event[row]
    next_place = first_event[:-1].copy()
    by_row = np.empty(first_event[-1], np.int64)
    for event in range(len(row_of)):
        row = row_of[event]
        if row >= 0:
            by_row[next_place[row]] = event
            next_place[row] += 1
    return by_row, first_event


@cache
def _step_type(measures: int) -> np.dtype[np.void]:
    """A step in memory: the fields of Steps."""
    return np.dtype(
        [
            ("row", "i8"),
            ("now", "i8"),
            ("event", "i8"),
            ("ordinal", "i8"),
            ("lifetime", "i8", len(LIFETIME)),
            ("hours", "i8", 8),
            ("windows", "i8", (4, measures)),
            ("late", "?"),
            ("outcome", "?"),
        ],
        align=True,
    )


def apply(
    rows: Rows, events: Events, by_row: Ints, first_event: Ints, asked: Asked, codec: RowCodec = CODEC
) -> History:
    """Apply events to rows and bring the rows up to what is asked.

    by_row (n,): the events by row, and within a row in the applied order; first_event (r + 1,): where those of each row
    begin in it. Events whose id the row remembers are left out. The heads are changed in place, but for the clock of
    rows without an event. ValueError where columns of rows or of events differ in length.
    """
    r, measures = len(rows), len(codec.vocabulary.measures)
    lengths = {len(column) for column in (first_event[1:], asked.swap, asked.until, asked.end)}
    if lengths != {r} or len({len(column) for column in events}) != 1:
        raise ValueError("columns differ in length")  # the compiled loop does not check indices
    longest = int((rows.end - rows.begin).max(initial=0)) // codec.format.small_pane.size
    most_events = int(np.diff(first_event).max(initial=0))
    begin, end = np.zeros(r, np.int64), np.zeros(r, np.int64)
    touched, before, after = np.zeros(r, bool), np.zeros(r, np.int64), np.zeros(r, np.int64)
    steps, pane_bytes = _history(
        rows.heads,
        rows.pane_bytes,
        rows.begin,
        rows.end,
        codec.format,
        events,
        by_row,
        first_event,
        asked,
        _columns_of(codec.vocabulary),
        np.empty(longest + most_events + 1, pane_type(measures)),
        np.zeros(4, window_type(measures)),
        np.zeros(measures, np.int64),
        np.empty(len(by_row) + len(by_row) // 4 + r + 16, _step_type(measures)),
        (begin, end),
        (touched, before, after),
    )
    columns = {name: steps[name] for name in steps.dtype.names or ()}
    for name, column in columns.items():
        if column.ndim == 1:  # each is read many times: side by side, and not a record apart
            columns[name] = np.ascontiguousarray(column)
    return History(Rows(rows.heads, pane_bytes, begin, end), Steps(**columns), touched, before, after)


@compiled
def _history(
    heads: Any,
    old_panes: Bytes,
    old_begin: Ints,
    old_end: Ints,
    row_format: RowFormat,
    events: Events,
    by_row: Ints,
    first_event: Ints,
    asked: Asked,
    columns: Any,
    panes: Any,
    windows: Any,
    added: Ints,
    steps: Any,
    new_edges: tuple[Ints, Ints],
    answers: tuple[Any, Ints, Ints],
) -> Any:
    """The histories of all rows; returns the steps, and the bytes of the new panes."""
    new_begin, new_end = new_edges
    touched, due_before, due_after = answers
    mine = np.empty(len(panes), np.int64)  # the user's events that are no repeats
    new_panes = np.empty(len(old_panes) + len(by_row) * row_format.large_pane.size, np.uint8)
    count = place = 0
    for row in range(len(heads)):
        head = heads[row]
        size = read_panes(old_panes, old_begin[row], old_end[row], int(head["small"]), row_format, panes)
        n = 0
        for i in range(first_event[row], first_event[row + 1]):
            event = by_row[i]
            if events.event_id[event] == NO_ID or remember(head["ids"], events.event_id[event]):
                mine[n] = event
                n += 1
        # a pane leaves four windows; beside the exits there are the events, a swap and an end
        steps = with_room(steps, count, 4 * (size + n) + n + 2)
        count, size, due_before[row], due_after[row] = _history_of_user(
            row, head, windows, panes, size, events, mine, n, asked, columns, added, steps, count
        )
        touched[row] = n > 0
        if n:
            size = settle(panes, size, head["clock"] // UNIT)
        new_panes = with_room(new_panes, place, size * row_format.large_pane.size)
        new_begin[row] = place
        head["small"], place = write_panes(panes, size, row_format, new_panes, place)
        new_end[row] = place
    return steps[:count], new_panes[:place]


@compiled
def with_room(values: Any, count: int, more: int) -> Any:
    """Values whose first `count` are used, with room for so many more: the same array, or a wider copy."""
    if count + more <= len(values):
        return values
    wider = np.empty(2 * len(values) + more, values.dtype)
    wider[:count] = values[:count]
    return wider


@compiled
def _history_of_user(
    row: int,
    head: Any,
    windows: Any,
    panes: Any,
    size: int,
    events: Events,
    mine: Ints,
    n: int,
    asked: Asked,
    columns: Any,
    added: Ints,
    steps: Any,
    count: int,
) -> tuple[int, int, int, int]:
    """All steps of one user: a swap; events, with the exits that come before each; exits up to what is asked; an end.

    mine (n,): the user's events in the applied order. Returns the number of steps and of panes, and the next edges
    before and after.
    """
    now, last = head["clock"], head["last"]
    decided = max(now, asked.swept)
    if asked.swap[row] and (n or not asked.by_events):
        now = max(now, asked.mark)
        enter(windows, panes, size, now // UNIT)
        count = _note(steps, count, row, now, SWAP, head, windows, columns)
        advance(windows, panes, size, decided // UNIT)
    else:
        enter(windows, panes, size, decided // UNIT)
    due_before = next_edge(windows, panes, size)
    if n and head["birth"] < 0:
        head["birth"] = events.ordinal[mine[0]]
        head["born"] = events.time[mine[0]] // UNIT

    for i in range(n):
        event = mine[i]
        time = events.time[event]
        now = max(now, time, events.watermark[event])
        count = _exits(steps, count, row, now // UNIT, head, windows, panes, size, columns)
        advance(windows, panes, size, now // UNIT)
        _measure_event(added, head, events, event, last, columns)
        last = max(last, time)
        size = add_event(windows, panes, size, time // UNIT, now // UNIT, added)
        add(head["totals"], added)
        _describe(head, events, event, now)
        count = _note(steps, count, row, now, event, head, windows, columns)
        step = steps[count - 1]
        step["ordinal"] = head["hour_events"]
        step["late"] = time // UNIT < now // UNIT
        step["outcome"] = added[columns.carts] > 0 or added[columns.orders] > 0

    count = _exits(steps, count, row, asked.until[row] // UNIT, head, windows, panes, size, columns)
    if asked.end[row] != NEVER:
        advance(windows, panes, size, asked.end[row] // UNIT)
        count = _note(steps, count, row, asked.end[row], asked.ending, head, windows, columns)
    if n:
        head["clock"], head["last"] = now, last
    return count, size, due_before, next_edge(windows, panes, size)


@compiled
def _measure_event(added: Ints, head: Any, events: Events, event: int, last: int, columns: Any) -> None:
    """Set added to what an event adds to each measure; the head remembers its session and its order.

    last (ms): the largest event time of the user before it.
    """
    session, order = events.session[event], events.order[event]
    quantity, event_type = events.quantity[event], events.type[event]
    # NEVER plus the gap is still before all times, so a first event opens a session
    new_session = remember(head["sessions"], session) or (session == NO_ID and events.time[event] > last + SESSION_GAP)
    new_order = False
    if event_type == columns.purchase and quantity >= 0:
        if order == NO_ID and session != NO_ID:
            order = (session ^ _SESSION_AS_ORDER) | _ONE
        new_order = order == NO_ID or remember(head["orders"], order)
    measure(added, columns.measures, event_type, quantity, events.amount[event], new_session, new_order)


@compiled
def _describe(head: Any, events: Events, event: int, now: int) -> None:
    """Affinities, place and the count of the active hour, in place."""
    affinity.count_event(head, now, events.block[event], events.category[event], events.brand[event])
    for i in range(3):
        if events.place[event, i] != 0:
            head["place"][i] = events.place[event, i]
    hour = now // HOUR_MS
    if hour == int(head["hour"]):
        head["hour_events"] = min(int(head["hour_events"]) + 1, COUNT_LIMIT)
    else:
        head["hour"], head["hour_events"] = hour, 1


@compiled
def _exits(
    steps: Any, count: int, row: int, until: int, head: Any, windows: Any, panes: Any, size: int, columns: Any
) -> int:
    """A step at each edge up to `until` (units) at which a pane leaves a window; returns the number of steps."""
    edge = next_edge(windows, panes, size)
    while edge <= until:
        advance(windows, panes, size, edge)
        count = _note(steps, count, row, edge * UNIT, EXIT, head, windows, columns)
        edge = next_edge(windows, panes, size)
    return count


@compiled
def _note(steps: Any, count: int, row: int, now: int, event: int, head: Any, windows: Any, columns: Any) -> int:
    """One more step: what the windows and the head say now; returns the number of steps."""
    step = steps[count]
    step["row"], step["now"], step["event"] = row, now, event
    for window in range(4):
        sums = windows[window]["sums"]
        for m in range(len(sums)):
            step["windows"][window, m] = sums[m]
    for i in range(8):
        step["hours"][i] = head["hours"][i]
    for i in range(len(columns.lifetime)):
        step["lifetime"][i] = head["totals"][columns.lifetime[i]]
    step["ordinal"], step["late"], step["outcome"] = 0, False, False
    return count + 1
