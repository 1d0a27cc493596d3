"""What the job's outputs must be, computed the plain way: each event looks at all of its user's events before it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.bench.peers.job import DAY, EDGES, HOUR, PANE_MS

Changes = dict[str, list[dict[str, Any]]]  # of each user, in order


def expected(events: Iterable[tuple[bytes, bytes]]) -> Changes:
    """Keys and values, each user's in the order of offsets, to each user's records."""
    seen: dict[str, list[tuple[int, int]]] = defaultdict(list)  # pane, cents
    clocks: dict[str, int] = defaultdict(int)
    classes: dict[str, int] = defaultdict(int)
    changes: Changes = defaultdict(list)
    for key, value in events:
        user, event = key.decode(), json.loads(value)
        time = datetime.fromisoformat(event["event_time"].replace("Z", "+00:00"))
        clocks[user] = max(clocks[user], round(time.timestamp() * 1000))
        spend = 0
        if event["event_type"] in ("purchase", "refund"):
            spend = round(event["price"] * 100) * event["quantity"]
            spend = -spend if event["event_type"] == "refund" else spend
        last = clocks[user] // PANE_MS
        seen[user].append((last, spend))
        hour = [cents for pane, cents in seen[user] if last - HOUR < pane <= last]
        day = [cents for pane, cents in seen[user] if last - DAY < pane <= last]
        reached = sum(sum(hour) >= edge for edge in EDGES)
        if reached != classes[user]:
            changes[user].append(
                {
                    "user": user,
                    "at": clocks[user],
                    "from": classes[user],
                    "to": reached,
                    "events_1h": len(hour),
                    "spend_1h": sum(hour),
                    "events_24h": len(day),
                    "spend_24h": sum(day),
                }
            )
            classes[user] = reached
    return dict(changes)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Records of all users. wrong: users with as many records as expected, of which some differ or lie in another
    order; missing, surplus: records too few or too many of the others."""

    records: int
    missing: int = 0
    surplus: int = 0
    wrong: int = 0
    first: str = ""  # the first difference, for the reader

    @property
    def equal(self) -> bool:
        return not (self.missing or self.surplus or self.wrong)


def compare(wanted: Changes, found: Mapping[str, list[dict[str, Any]]]) -> Comparison:
    """Each user's records and their order."""
    missing = surplus = wrong = 0
    first = ""
    for user in sorted(wanted.keys() | found.keys()):
        theirs, ours = found.get(user, []), wanted.get(user, [])
        if theirs == ours:
            continue
        missing += max(0, len(ours) - len(theirs))
        surplus += max(0, len(theirs) - len(ours))
        wrong += len(ours) == len(theirs)
        first = first or f"user {user}: expected {ours}, found {theirs}"
    return Comparison(sum(map(len, found.values())), missing, surplus, wrong, first[:600])
