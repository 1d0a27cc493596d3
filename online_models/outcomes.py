"""What came of a training row: a purchase within the next seven days, a cart in the next session.

Said by the later records of the same user in the log, each of which carries the user's lifetime totals; every cart and
purchase of a followed user is a record at once, so a total that has grown says what happened and when.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.training_rows import ROW, Ints, Rows

HORIZON = 7 * 86_400_000  # ms

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of the m records of kind ROW, in log order; m entries each."""

    at: Ints  # index of the record among the rows
    bought: Bools  # a later record has more orders, no later than HORIZON after the row
    carted: Bools  # carts were added in the session after the row's, no later than that
    returned: Bools  # a later session was seen, no later than that: only then "not carted" is about a session
    ripe: Bools  # the log's time has passed HORIZON after the row: what is not seen by now did not happen


def outcomes(rows: Rows, horizon: int = HORIZON) -> Outcomes:
    """What came of each ROW within the horizon (ms).

    A user's next session is the span in which the total of sessions is one more than in the row. Where a user's time
    or totals go back (erased, and back again) another history begins. The log's time is the largest `now` in it.
    """
    at = np.flatnonzero(rows.kind == ROW)
    order, history, last = _histories(rows, horizon)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    mine = place[at]  # the rows in order of history
    last = last[mine]
    orders, carts, sessions = rows.orders[order], rows.carts[order], rows.sessions[order]
    same = np.minimum(_last_of(history, sessions, mine, sessions[mine]), last)
    following = np.minimum(_last_of(history, sessions, mine, sessions[mine] + 1), last)
    top = int(rows.now.max()) if len(rows) else 0
    return Outcomes(
        at,
        orders[last] > orders[mine],
        carts[following] > carts[same],
        sessions[last] > sessions[mine],
        rows.now[at] + horizon < top,
    )


def _histories(rows: Rows, horizon: int) -> tuple[Ints, Ints, Ints]:
    """Records by user, each user's in log order; the history of each, ascending; and the last record of the history
    that is no later than the horizon after it. Within a history neither time nor totals go back."""
    user = np.unique(rows.user, return_inverse=True)[1].reshape(-1)
    order = np.argsort(user, kind="stable")
    opens = np.diff(user[order], prepend=-1) > 0
    for column in (rows.now, rows.sessions, rows.carts, rows.orders):
        opens[1:] |= np.diff(column[order]) < 0
    history = np.cumsum(opens) - 1
    return order, history, _last_of(history, rows.now[order], np.arange(len(order)), rows.now[order] + horizon)


def _last_of(history: Ints, column: Ints, of: Ints, most: Ints) -> Ints:
    """The last record, in the history of each record `of`, whose column is at most that; there is one."""
    values = np.unique(column)  # ranks, so that history and value make one key
    key = history * (len(values) + 1) + np.searchsorted(values, column)
    wanted = history[of] * (len(values) + 1) + np.searchsorted(values, most, "right")
    return np.searchsorted(key, wanted) - 1
