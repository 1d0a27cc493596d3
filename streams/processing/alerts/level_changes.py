"""Changes of level: they open, update and resolve alerts. And the alert records.

Each rule gives every step of a user's history a level. An exit can only bring a level down: what leaves the windows
resolves what it opened, without a new event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from state import history
from state.history import Steps
from state.layout import Heads
from streams.processing.alerts.rule import LEVELS, AlertRule, JudgedStep, JudgedSteps
from streams.processing.cloudevents import encoder, event_ids, rfc3339

OPEN, UPDATE, RESOLVED = STATUSES = ("open", "update", "resolved")


@dataclass(frozen=True, slots=True)
class Alert:
    """A change of the level that a rule gives a user."""

    rule: AlertRule
    row: int  # of the user
    step: int
    level: int  # place in LEVELS
    status: str
    seq: int  # of the user's alert records, from 1
    birth: int  # ordinal of the user's first event, which with the partition names the user
    since: int  # ms: when the alert opened
    now: int  # ms: as of when the step is judged


def judge(rules: Sequence[AlertRule], steps: JudgedSteps) -> NDArray[np.uint8]:
    """The level that each rule gives each step: (s, rules)."""
    levels = np.zeros((len(steps), len(rules)), np.uint8)
    for column, rule in enumerate(rules):
        levels[:, column] = rule.levels(steps)
    levels[steps.event <= history.FORGOTTEN] = 0  # a user who is forgotten or erased leaves no alert open
    return levels


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


def alert_records(alerts: Sequence[Alert], users: Sequence[bytes], steps: JudgedSteps) -> list[tuple[bytes, bytes]]:
    """(key, alert record) of each alert, with its evidence and thresholds; users (u,): the ids of the rows."""
    if not alerts:
        return []
    keys = [users[alert.row] for alert in alerts]
    ids = event_ids(keys, [alert.birth for alert in alerts], [alert.seq for alert in alerts], "alert")
    first_seen = rfc3339(np.array([alert.since for alert in alerts]))
    last_seen = rfc3339(np.array([alert.now for alert in alerts]))
    encode, records = encoder("alert"), []
    for alert, key, event_id, since, now in zip(alerts, keys, ids, first_seen, last_seen, strict=True):
        step, subject = JudgedStep(steps, alert.step), key.decode()
        data = {
            "rule": alert.rule.name,
            "severity": LEVELS[alert.level],
            "status": alert.status,
            "subject": subject,
            "evidence": alert.rule.evidence(step),
            "thresholds": alert.rule.thresholds(step),
            "first_seen": since,
            "last_seen": now,
        }
        records.append((key, encode(event_id, subject, now, data)))
    return records
