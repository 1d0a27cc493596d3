"""What came of a training row: a purchase within the next seven days, a cart in the next session.

Said by the later records of the same user in the log, each of which carries the user's lifetime totals; every cart and
purchase of a followed user is a record at once, so a total that has grown says what happened and when.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.training_rows import DAY_MS, SAMPLE_ROW, Ints, TrainingRows

HORIZON = 7 * DAY_MS

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of the m records of kind SAMPLE_ROW, in log order; m entries each."""

    at: Ints  # index of the record among the rows
    bought: Bools  # a later record has more orders, no later than HORIZON after the row
    carted: Bools  # carts were added in the session after the row's, no later than that
    returned: Bools  # a later session was seen, no later than that: only then "not carted" is about a session
    ripe: Bools  # the log's time has passed HORIZON after the row: what is not seen by now did not happen


def outcomes(rows: TrainingRows, horizon: int = HORIZON) -> Outcomes:
    """What came of each SAMPLE_ROW within the horizon (ms).

    A user's next session is the span in which the total of sessions is one more than in the row. Where a user's time
    or totals go back (erased, and back again) another history begins. The log's time is the largest `now` in it.
    """
    sampled = np.flatnonzero(rows.kind == SAMPLE_ROW)
    order, history, last_within = _histories(rows, horizon)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    mine = place[sampled]  # the rows in order of history
    last = last_within[mine]
    orders, carts, sessions = rows.orders[order], rows.carts[order], rows.sessions[order]
    same_session = np.minimum(_last_up_to(history, sessions, mine, sessions[mine]), last)
    next_session = np.minimum(_last_up_to(history, sessions, mine, sessions[mine] + 1), last)
    log_time = int(rows.now.max()) if len(rows) else 0
    return Outcomes(
        sampled,
        orders[last] > orders[mine],
        carts[next_session] > carts[same_session],
        sessions[last] > sessions[mine],
        rows.now[sampled] + horizon < log_time,
    )


def _histories(rows: TrainingRows, horizon: int) -> tuple[Ints, Ints, Ints]:
    """Records by user, each user's in log order; the history of each, ascending; and the last record of the history
    that is no later than the horizon after it. Within a history neither time nor totals go back."""
    user = np.unique(rows.user, return_inverse=True)[1].reshape(-1)
    order = np.argsort(user, kind="stable")
    begins = np.diff(user[order], prepend=-1) > 0
    for column in (rows.now, rows.sessions, rows.carts, rows.orders):
        begins[1:] |= np.diff(column[order]) < 0
    history = np.cumsum(begins) - 1
    every = np.arange(len(order))
    return order, history, _last_up_to(history, rows.now[order], every, rows.now[order] + horizon)


def _last_up_to(history: Ints, column: Ints, records: Ints, limit: Ints) -> Ints:
    """The last record, in the history of each of some records, whose column is at most the limit; there is one."""
    values = np.unique(column)  # ranks, so that history and value make one key
    key = history * (len(values) + 1) + np.searchsorted(values, column)
    wanted = history[records] * (len(values) + 1) + np.searchsorted(values, limit, "right")
    return np.searchsorted(key, wanted) - 1
