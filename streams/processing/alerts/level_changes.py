"""Changes of level: they open, update and resolve alerts. And the alert records.

Each rule gives every step of a user's history a level. An exit can only bring a level down: what leaves the windows
resolves what it opened, without a new event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from state.compiled import compiled
from state.history import EXIT, FORGOTTEN, SWAP, Steps, with_room
from state.layout import Heads, Ints
from streams.processing.alerts.rule import LEVELS, AlertRule, JudgedStep, JudgedSteps
from streams.processing.outputs.cloudevents import encode_events, identities, rfc3339

OPEN, UPDATE, RESOLVED = STATUSES = ("open", "update", "resolved")
_LEVEL_CHANGE = np.dtype(
    [(name, "i8") for name in ("rule", "row", "step", "level", "before", "seq", "birth", "since", "now")]
)


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
    levels[steps.event <= FORGOTTEN] = 0  # a user who is forgotten or erased leaves no alert open
    return levels


def detect(heads: Heads, steps: Steps, levels: NDArray[np.uint8], rules: Sequence[AlertRule]) -> list[Alert]:
    """The changes of level in the order of the steps; swaps are not judged. Updates the alert fields of heads, in
    place.

    heads (u,); levels (s, rules): as judge() returns them.
    """
    slots = np.array([rule.slot for rule in rules], np.int64)
    found = _detect(heads, steps.row, steps.now, steps.event, levels, slots, np.empty(16, _LEVEL_CHANGE))
    return [
        Alert(rules[rule], row, step, level, _status(before, level), seq, birth, since, now)
        for rule, row, step, level, before, seq, birth, since, now in found.tolist()
    ]


def _status(before: int, level: int) -> str:
    if before == 0:
        return OPEN
    return UPDATE if level else RESOLVED


@compiled
def _detect(heads: Any, row: Ints, now: Ints, event: Ints, levels: NDArray[np.uint8], slots: Ints, found: Any) -> Any:
    """The changes of level, as records of _LEVEL_CHANGE; found: room for some. slots (rules,)."""
    count = 0
    for step in range(len(row)):
        if event[step] == SWAP:
            continue
        head = heads[row[step]]
        for rule in range(len(slots)):
            slot, level = slots[rule], levels[step, rule]
            before = head["alert"][slot]
            if event[step] == EXIT:
                level = min(level, before)
            if level == before:
                continue
            head["alert"][slot] = level
            head["alert_seq"] += 1
            if before == 0:
                head["alert_since"][slot] = now[step]
            found = with_room(found, count, 1)
            change = found[count]
            change["rule"], change["row"], change["step"] = rule, row[step], step
            change["level"], change["before"], change["seq"] = level, before, head["alert_seq"]
            change["birth"], change["since"], change["now"] = head["birth"], head["alert_since"][slot], now[step]
            count += 1
    return found[:count]


def alert_records(alerts: Sequence[Alert], users: Sequence[bytes], steps: JudgedSteps) -> list[tuple[bytes, bytes]]:
    """(key, alert record) of each alert, with its evidence and thresholds; users (u,): the ids of the rows."""
    if not alerts:
        return []
    keys = [users[alert.row] for alert in alerts]
    identity = identities(keys, [alert.birth for alert in alerts], [alert.seq for alert in alerts])
    subjects = [key.decode() for key in keys]
    first_seen = rfc3339(np.array([alert.since for alert in alerts]))
    last_seen = rfc3339(np.array([alert.now for alert in alerts]))
    data = []
    for alert, subject, since, now in zip(alerts, subjects, first_seen, last_seen, strict=True):
        step = JudgedStep(steps, alert.step)
        data.append(
            {
                "rule": alert.rule.name,
                "severity": LEVELS[alert.level],
                "status": alert.status,
                "subject": subject,
                "evidence": alert.rule.evidence(step),
                "thresholds": alert.rule.thresholds(step),
                "first_seen": since,
                "last_seen": now,
            }
        )
    return list(zip(keys, encode_events("alert", identity, subjects, last_seen, data), strict=True))
