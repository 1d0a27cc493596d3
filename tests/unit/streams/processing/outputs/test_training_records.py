"""What `training-rows` tells of a user: rows, carts and purchases, and the first day's end."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.learner import control_messages
from online_models.training_rows import FIRST_DAY_ROW, OUTCOME_ROW, SAMPLE_ROW, TrainingRows
from state import features, windows
from state.stores.memory import MemoryStore
from streams.processing.outputs import training_records
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from tests.build import records, stream
from tests.support.decoding import decode

HOUR, DAY_MS = 3_600_000, 86_400_000
WIDTH = 2 * features.R + len(features.PLAIN)


def taught(events: list[dict[str, Any]], *, hourly: int = 5_000, sweep: bool = False) -> TrainingRows:
    """The training rows of a stream, in the order in which they are sent."""
    store = MemoryStore()
    task = PartitionProcessor(
        PartitionConfig(sources=("clickstream",), training_hourly=hourly, training_key=b"k"),
        decode,
        store,
        Topics("changes", "segments", "alerts", "dead", "training", "receipts"),
    )
    found = []
    for i, event in enumerate(events):
        task.add(records([event], first=i))
        task.run(1 << 60, {"clickstream": len(events)})
        while sweep and (task.progress.sweeping or task.progress.swept < task.progress.watermark):
            task.sweep(5)
        cut = task.cut(0)
        found += cut.outputs.get(("training", 0), []) if cut else []
    keys, values = [key for key, _, _ in found], [value for _, value, _ in found]
    return training_records.decode(keys, values, range(len(found)), training_records.layout(features.NAMES), WIDTH)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 80), st.booleans())
def test_totals_births_and_the_ends_of_first_days_are_a_plain_loops(seed: int, n: int, sweep: bool) -> None:
    events = [e for e in stream(np.random.default_rng(seed), n, 5) if "event_id" not in e and e["price"] >= 0]
    found = taught(events, sweep=sweep)
    names = [f"u{i}" for i in range(5)]
    of = dict(zip(training_records.pseudonyms(map(str.encode, names), b"k"), names, strict=True))
    born: dict[str, int] = {}
    carts: dict[str, int] = defaultdict(int)
    told: set[tuple[str, int]] = set()
    for event in events:
        user = event["user_id"]
        born.setdefault(user, event["event_time"] // windows.UNIT * windows.UNIT)
        carts[user] += event["event_type"] == "add_to_cart"
        if event["event_type"] == "add_to_cart":
            told.add((user, carts[user]))
    users = [of[one.tobytes()] for one in found.user]
    assert found.born.tolist() == [born[user] for user in users]
    ends: dict[str, list[int]] = defaultdict(list)
    young = set()
    for user, kind, now, many in zip(users, found.kind.tolist(), found.now.tolist(), found.carts.tolist(), strict=True):
        end = (born[user] // HOUR + 25) * HOUR
        if kind == FIRST_DAY_ROW:
            ends[user].append(now)
            assert now == end
            assert user in young
        if kind == SAMPLE_ROW and now < end:
            young.add(user)
        if kind in (SAMPLE_ROW, OUTCOME_ROW):
            told.discard((user, many))
    assert all(len(times) == 1 for times in ends.values())
    assert not told  # every cart is told, by a row or an outcome


def test_a_followed_users_day_ends_without_another_event() -> None:
    start = 1_700_000_000_000
    events = [{"user_id": "new", "event_type": "view", "event_time": start + i * 1000} for i in range(8)]
    events.append({"user_id": "other", "event_type": "view", "event_time": start + 3 * DAY_MS})
    found = taught(events, sweep=True)
    (pseudonym,) = training_records.pseudonyms([b"new"], b"k")
    new = found.take(np.array([one.tobytes() for one in found.user]) == pseudonym)
    assert new.kind.tolist() == [SAMPLE_ROW, FIRST_DAY_ROW]
    assert new.raw[1, features.R :][: features.R].any()  # seven days still hold what the day has lost


def test_an_order_is_no_row() -> None:
    found = training_records.decode(
        [control_messages.KEY, None, b"k" * 16], [b"{}", b"x", b"short"], [1, 2, 3], 0, WIDTH
    )
    assert len(found) == 0
