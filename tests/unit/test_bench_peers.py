"""The job of `make bench-peers`: the engines' function against the oracle, and the comparison."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from typing import Any

from tests.bench.peers import job, oracle
from tests.bench.peers.topics import click

NOW = 1_714_564_800_000


def histories(seed: int) -> list[tuple[bytes, bytes]]:
    """Events of a few users over three days, some of them behind the clock."""
    draw = random.Random(seed)
    events, time = [], NOW
    for _ in range(600):
        time += draw.randrange(900_000)
        user = b"user-%d" % draw.randrange(3)
        at = time - draw.choice((0, 0, 0, 7_200_000))
        kind = draw.choice(("page_view", "purchase", "refund"))
        value = json.loads(click(user, at, kind)) | {"price": draw.randrange(1, 20_000) / 100, "quantity": 2}
        events.append((user, json.dumps(value).encode()))
    return events


def folded(events: list[tuple[bytes, bytes]]) -> oracle.Changes:
    states: dict[bytes, job.State] = defaultdict(job.new_state)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for user, value in events:
        change = job.apply(states[user], user.decode(), *job.time_and_spend(json.loads(value)))
        if change is not None:
            found[user.decode()].append(change)
    return dict(found)


def test_the_function_of_the_engines_gives_what_the_oracle_expects() -> None:
    for seed in range(5):
        events = histories(seed)
        wanted = oracle.expected(events)
        assert sum(map(len, wanted.values())) > 100
        assert oracle.compare(wanted, folded(events)).equal


def test_the_comparison_tells_what_is_missing_surplus_or_in_another_order() -> None:
    wanted = oracle.expected(histories(1))
    user = next(iter(wanted))
    shorter = wanted | {user: wanted[user][:-1]}
    longer = wanted | {user: [*wanted[user], wanted[user][-1]]}
    turned = wanted | {user: wanted[user][::-1]}
    assert oracle.compare(wanted, shorter).missing == 1
    assert oracle.compare(wanted, longer).surplus == 1
    assert oracle.compare(wanted, turned).wrong == 1
    assert not oracle.compare(wanted, turned).equal
