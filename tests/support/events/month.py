"""A seeded month of a shop in shoal's schema: late lines, repeats, refunds, orders of several lines, users with and
without sessions. `python -m tests.support.events.month OUT.jsonl.gz --seed 1`."""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

START = 1_722_470_400_000  # 2024-08-01
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
KINDS = ("page_view", "view", "search", "add_to_cart", "remove_from_cart", "checkout", "purchase", "refund", "click")
SHARES = (0.30, 0.33, 0.08, 0.12, 0.02, 0.03, 0.06, 0.01, 0.05)


def month(seed: int, visits: int = 3_000, users: int = 400) -> list[dict[str, Any]]:
    """Events in the order of the file: by time, some late by minutes, hours or days, some repeated at once."""
    rng = np.random.default_rng(seed)
    found: list[tuple[int, dict[str, Any]]] = []
    for visit in range(visits):
        user = int(min(users - 1, rng.exponential(users / 4)))
        name = f"kündin-{user}" if user % 7 == 0 else str(10_000 + user)
        time = START + int(rng.integers(0, 31 * DAY))
        with_session = user % 3 != 0
        for number in range(int(rng.geometric(0.14))):
            time += int(rng.exponential(90_000))
            kind = str(rng.choice(KINDS, p=SHARES))
            event: dict[str, Any] = {"event_time": time, "event_type": kind, "user_id": name}
            if rng.random() < 0.5:
                event["event_time"] = str(np.datetime64(time, "ms")) + "Z"
            if user % 7 and rng.random() < 0.3:
                event["user_id"] = int(name)
            if with_session:
                event["session_id"] = f"s{visit}"
            if rng.random() < 0.8:
                event["event_id"] = f"e{visit}-{number}"
            lines = 1
            if kind in ("purchase", "refund", "add_to_cart"):
                if rng.random() < 0.95:
                    event["price"] = round(float(rng.lognormal(3, 1)), 2)
                if rng.random() < 0.9:
                    event["quantity"] = int(rng.choice([-1, 0, 1, 1, 1, 2, 5]))
                if kind == "purchase" and rng.random() < 0.7:
                    event["transaction_id"] = f"t{visit}-{number}"
                    lines = int(rng.integers(1, 4))
            arrival = time
            if rng.random() < 0.04:
                # a row remembers eight sessions: lines of one are not late enough for more to interleave
                arrival += int(rng.exponential(rng.choice([5 * MINUTE, HOUR] if with_session else [5 * HOUR, 2 * DAY])))
            for line in range(lines):
                one = dict(event)
                if line and "event_id" in one:
                    one["event_id"] += f"-{line}"
                found.append((arrival + line, one))
                if "event_id" in one and rng.random() < 0.03:
                    found.append((arrival + line, dict(one)))  # delivered twice
    found.sort(key=lambda item: item[0])
    return [event for _, event in found]


def write(path: Path, seed: int, **size: int) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as out:
        for event in month(seed, **size):
            out.write(json.dumps(event, ensure_ascii=False) + "\n")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    write(chosen.out, chosen.seed)
