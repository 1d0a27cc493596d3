"""The job that every engine does, and the fold that the Python engines share. The standard library alone: the engines'
own environments import this file.

An event is a flat JSON object; its record's key is the user. A user's clock is the latest `event_time` among the user's
events so far, in the order of offsets: an event that is behind the clock counts at the clock (there is no lateness, and
time passes for a user only by the user's own events). Panes are five minutes long. As of a clock in pane p, the last
hour is panes p-11 to p and the last 24 hours are panes p-287 to p. Spend is whole cents: rint(price * 100) * quantity
(1 where there is none) of a purchase, the same negative of a refund, 0 of anything else.

A user's class is the number of EDGES that the last hour's spend reaches; it is 0 before the first event. Each event
whose class is not the one before gives one record, with the user as its key:

    {"user": "10000042", "at": 1714564800000, "from": 0, "to": 2,
     "events_1h": 3, "spend_1h": 7990, "events_24h": 12, "spend_24h": 7990}
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime
from typing import Any

PANE_MS = 300_000
HOUR, DAY = 12, 288  # panes
EDGES = (1, 5_000, 20_000)  # cents in the last hour
SIGN = {"purchase": 1, "refund": -1}

State = list[Any]  # clock (ms), class, panes: [number, events, spend], the oldest first; plain JSON


def new_state() -> State:
    """A user of whom there is no event yet."""
    return [0, 0, []]


def time_and_spend(event: dict[str, Any]) -> tuple[int, int]:
    """Epoch ms and cents of an event."""
    time = round(datetime.fromisoformat(event["event_time"]).timestamp() * 1000)
    sign = SIGN.get(event["event_type"], 0)
    return time, sign and sign * round(event.get("price", 0.0) * 100) * event.get("quantity", 1)


def apply(state: State, user: str, time: int, spend: int) -> dict[str, Any] | None:
    """Take an event into a user's state, in place; the record that it gives, or None."""
    if time > state[0]:
        state[0] = time
    pane, panes = state[0] // PANE_MS, state[2]
    if panes and panes[-1][0] == pane:
        panes[-1][1] += 1
        panes[-1][2] += spend
    else:
        panes.append([pane, 1, spend])
        while panes[0][0] <= pane - DAY:
            del panes[0]
    events_1h = spend_1h = 0
    for number, count, amount in reversed(panes):
        if number <= pane - HOUR:
            break
        events_1h += count
        spend_1h += amount
    before, now = state[1], bisect_right(EDGES, spend_1h)
    if now == before:
        return None
    state[1] = now
    return {
        "user": user,
        "at": state[0],
        "from": before,
        "to": now,
        "events_1h": events_1h,
        "spend_1h": spend_1h,
        "events_24h": sum(count for _, count, _ in panes),
        "spend_24h": sum(amount for _, _, amount in panes),
    }
