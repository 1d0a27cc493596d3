"""Changes of level on whole columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from state import history
from state.history import Steps
from state.layout import Heads
from streams.processing.alerts.level_changes import OPEN, RESOLVED, UPDATE, Alert
from streams.processing.alerts.rule import AlertRule


def detect(heads: Heads, steps: Steps, levels: NDArray[np.uint8], rules: Sequence[AlertRule]) -> list[Alert]:
    """The changes of level in the order of the steps; swaps are not judged. Updates the alert fields of heads, in
    place.

    heads (u,); levels (s, rules): as judge() returns them.
    """
    judged = np.flatnonzero(steps.event != history.SWAP)
    if not len(judged):
        return []
    slots = [rule.slot for rule in rules]
    row = steps.row[judged]
    first = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    last = np.r_[first[1:], len(judged)] - 1
    level, stored = levels[judged], heads["alert"][row[:, None], slots]
    is_exit = steps.event[judged] == history.EXIT
    for i in np.flatnonzero(is_exit & level.any(1)).tolist():  # few: quiet users' levels are 0
        before = stored[i] if i == 0 or row[i - 1] != row[i] else level[i - 1]
        level[i] = np.minimum(level[i], before)
    previous = np.empty_like(level)
    previous[1:] = level[:-1]
    previous[first] = stored[first]
    alerts = []
    for i, column in np.argwhere(level != previous).tolist():
        user_row, now, slot = int(row[i]), int(steps.now[judged[i]]), slots[column]
        if previous[i, column] == 0:
            status = OPEN
            heads["alert_since"][user_row, slot] = now
        else:
            status = UPDATE if level[i, column] else RESOLVED
        heads["alert_seq"][user_row] += 1
        alerts.append(
            Alert(
                rule=rules[column],
                row=user_row,
                step=int(judged[i]),
                level=int(level[i, column]),
                status=status,
                seq=int(heads["alert_seq"][user_row]),
                birth=int(heads["birth"][user_row]),
                since=int(heads["alert_since"][user_row, slot]),
                now=now,
            )
        )
    heads["alert"][row[first][:, None], slots] = level[last]
    return alerts
