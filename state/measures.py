"""What one event adds to each measure, as the table of the vocabulary says."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from state.compiled import compiled
from state.layout import Ints
from state.vocabulary import ANY, Adds, Vocabulary

ANY_TYPE = -1
_ONE, _NEW_ORDER, _NEW_SESSION, _TAKEN_BACK, _QUANTITY, _AMOUNT, _MINUS_AMOUNT = range(7)
_CODES = {
    Adds.ONE: _ONE,
    Adds.NEW_ORDER: _NEW_ORDER,
    Adds.NEW_SESSION: _NEW_SESSION,
    Adds.TAKEN_BACK: _TAKEN_BACK,
    Adds.QUANTITY: _QUANTITY,
    Adds.AMOUNT: _AMOUNT,
    Adds.MINUS_AMOUNT: _MINUS_AMOUNT,
}


class MeasureTable(NamedTuple):
    """The lines of a vocabulary's table as columns; l entries each."""

    event_type: Ints  # code; ANY_TYPE for every type
    adds: Ints
    column: Ints  # of the measure


@cache
def table_of(vocabulary: Vocabulary) -> MeasureTable:
    """The table of a vocabulary."""
    types = [ANY_TYPE if line.event_type == ANY else vocabulary.code(line.event_type) for line in vocabulary.table]
    return MeasureTable(
        np.array(types, np.int64),
        np.array([_CODES[line.adds] for line in vocabulary.table], np.int64),
        np.array([vocabulary.column(line.measure) for line in vocabulary.table], np.int64),
    )


@compiled
def measure(
    added: Ints, table: MeasureTable, event_type: int, quantity: int, amount: int, new_session: bool, new_order: bool
) -> None:
    """Set added (measures,) to what an event adds.

    amount: price times quantity in minor units; new_session: the event opens a session; new_order: it is the first
    purchase of an order.
    """
    added[:] = 0
    for i in range(len(table.adds)):
        if table.event_type[i] != event_type and table.event_type[i] != ANY_TYPE:
            continue
        adds, value = table.adds[i], 0
        if adds == _ONE:
            value = 1
        elif adds == _NEW_ORDER:
            value = int(new_order)
        elif adds == _NEW_SESSION:
            value = int(new_session)
        elif adds == _TAKEN_BACK:
            value = int(quantity < 0)
        elif adds == _QUANTITY:
            value = max(quantity, 0)
        elif adds == _AMOUNT:
            value = amount
        elif adds == _MINUS_AMOUNT:
            value = -abs(amount)
        added[table.column[i]] += value
