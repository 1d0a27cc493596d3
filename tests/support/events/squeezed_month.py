"""A seeded stream: a month of visits squeezed into seconds, mostly in order; late and repeated lines, rejects."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

START = 1_711_929_600_000  # 2024-04-01
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
KINDS = ("page_view", "view", "search", "add_to_cart", "remove_from_cart", "checkout", "purchase", "refund")
SHARES = (0.28, 0.32, 0.08, 0.14, 0.03, 0.04, 0.09, 0.02)
BAD = ("bad_price", "not_json", "bad_type", "bad_time")
TRUTH = "truth"  # header that names the reason for which a record is to be rejected; no worker looks at headers
HOT = "hot"


class Sent(NamedTuple):
    """A record to send; reason "" where it is to be accepted."""

    source: int  # 0 the first source, 1 the second
    key: bytes
    value: bytes
    stamp: int  # record time, ms: never falling
    reason: str


class Shape(NamedTuple):
    """How much of it; the hot user has half of all events where there is one."""

    events: int = 15_000
    users: int = 1_500
    days: float = 34.0
    hot: bool = False
    cold: int = 0  # users of one event each, before all others


def stream(seed: int, shape: Shape = Shape()) -> list[Sent]:  # noqa: B008 (a tuple)
    """Records in the order in which they are sent. Each event of a user carries the next number of that user."""
    rng = np.random.default_rng(seed)
    found: list[tuple[int, dict[str, Any], str]] = []  # arrival, event, reason
    numbers: dict[str, int] = {}
    visit = 0
    while len(found) < shape.events:
        visit += 1
        hot = shape.hot and visit % 2 == 0
        user = HOT if hot else f"u{min(shape.users - 1, int(rng.exponential(shape.users / 2)))}"
        time = START + int(rng.integers(0, int(shape.days * DAY)))
        # the hot one has no session ids: more of them would interleave than a row remembers
        session = None if hot or rng.random() < 0.25 else f"s{visit}"
        for _ in range(int(rng.geometric(0.2))):
            time += int(rng.exponential(60_000))
            numbers[user] = number = numbers.get(user, 0) + 1
            kind = str(rng.choice(KINDS, p=SHARES))
            event: dict[str, Any] = {
                "event_time": time,
                "event_type": kind,
                "user_id": user,
                "event_id": f"{user}-{number}",
                "product_id": f"p{number}",
            }
            if session:
                event["session_id"] = session
            if kind in ("purchase", "refund", "add_to_cart"):
                event["price"] = round(float(rng.lognormal(3, 1)), 2)
            if kind == "purchase" and rng.random() < 0.6:
                event["transaction_id"] = f"t{user}-{number // 2}"
            arrival, chance = time, rng.random()
            if chance < 0.04:
                arrival += int(rng.exponential(40 * MINUTE if session else 4 * HOUR))
            elif chance < 0.14:
                arrival += int(rng.integers(0, 3 * MINUTE))
            found.append((arrival, event, ""))
            if rng.random() < 0.03:
                found.append((arrival + int(rng.exponential(20_000)), event, ""))
            if rng.random() < 0.008:
                found.append((arrival, event, BAD[int(rng.integers(len(BAD)))]))
    found.sort(key=lambda item: item[0])
    return [*(cold(shape.cold)), *(_sent(*item) for item in found)]


def _sent(arrival: int, event: dict[str, Any], reason: str) -> Sent:
    source = int(event["event_type"] in ("purchase", "refund"))
    if reason:
        wrong = {"bad_price": {"price": -1}, "bad_type": {"event_type": 7}, "bad_time": {"event_time": "soon"}}
        event = event | {"event_id": "bad"} | wrong.get(reason, {})
    value = json.dumps(event).encode()
    return Sent(source, str(event["user_id"]).encode(), value[:-1] if reason == "not_json" else value, arrival, reason)


def cold(users: int) -> list[Sent]:
    """Users of one event each, all within the hour before the stream begins."""
    times = [START - HOUR + number * HOUR // users for number in range(users)]
    return [
        _sent(
            time,
            {
                "event_time": time,
                "event_type": KINDS[number % 4],
                "user_id": f"cold{number}",
                "event_id": f"cold{number}-1",
            },
            "",
        )
        for number, time in enumerate(times)
    ]
