"""Events as columns, what each adds to which measure, and which of them open a session or an order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from state.layout import Heads, Ints
from state.vocabulary import ANY, Adds, Vocabulary
from tests.numpy_core import recent_ids

SESSION_GAP = 30 * 60_000  # ms without an event that end a session
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


def firsts(heads: Heads, events: Events, before: Ints, purchase: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which events open a session, and which are the first purchase of an order: (n,) each. Updates the recent sessions
    and orders of heads, in place.

    before (n,): the largest event time of the row before each event, ms; purchase: the code of a purchase.
    """
    new_session = recent_ids.first_sights(events.row, events.session, heads["sessions"])
    # NEVER plus the gap is still before all times, so a first event opens a session
    new_session |= (events.session == 0) & (events.time > before + SESSION_GAP)
    bought = (events.type == purchase) & (events.quantity >= 0)
    by_session = np.where(events.session != 0, (events.session ^ _SESSION_AS_ORDER) | np.uint64(1), np.uint64(0))
    named = np.where(events.order != 0, events.order, by_session)
    order = np.where(bought, named, np.uint64(0))
    new_order = recent_ids.first_sights(events.row, order, heads["orders"]) | (bought & (order == 0))
    return new_session, new_order


class _Plan(NamedTuple):
    """How the table of a vocabulary is applied to events: made once, since it is used for every batch."""

    counted: Ints  # (types + 1,) by code: the column of the measure that counts the events of this type, -1 for none
    others: tuple[tuple[Adds, int, int], ...]  # all other lines: what is added, code of the type (-1: any), column


@cache
def _plan(vocabulary: Vocabulary) -> _Plan:
    counted = np.full(vocabulary.other + 1, -1)
    others = []
    for line in vocabulary.table:
        code, column = vocabulary.code(line.event_type), vocabulary.column(line.measure)
        if line.event_type == ANY:
            others.append((line.adds, -1, column))
        elif line.adds is Adds.ONE and counted[code] < 0:
            counted[code] = column
        else:
            others.append((line.adds, code, column))
    return _Plan(counted, tuple(others))


def measures(
    events: Events, new_session: NDArray[np.bool_], new_order: NDArray[np.bool_], vocabulary: Vocabulary
) -> Ints:
    """What each event adds: (n, measures), columns in the order of the vocabulary.

    new_session (n,): the event opens a session; new_order (n,): it is the first purchase of an order.
    """
    plan = _plan(vocabulary)
    out = np.zeros((len(events.row), len(vocabulary.measures)), np.int64)
    column_of = plan.counted[events.type]  # most lines count the events of one type: all of these lines at once
    at = np.flatnonzero(column_of >= 0)
    out[at, column_of[at]] = 1
    of_type = {code: np.flatnonzero(events.type == code) for code in {code for _, code, _ in plan.others if code >= 0}}
    for adds, code, column in plan.others:
        value = _added(adds, events, new_session, new_order)
        if code < 0:
            out[:, column] += value
        else:
            out[of_type[code], column] += value[of_type[code]]
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
