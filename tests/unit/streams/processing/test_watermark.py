"""The watermark: by events, by idle wall time, by hand; and the order of arrival within the lateness bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state import windows
from state.stores.memory import MemoryStore
from streams.offline import feature_table
from streams.processing import progress
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import PROGRESS_KEY, Entry
from tests.build import records, version
from tests.support.decoding import decode

TOPICS = Topics("changes", "segments", "alerts", "dead", "training", "receipts")
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T = 1_700_000_100_000 // windows.UNIT * windows.UNIT
WALL = T + 400 * DAY  # the events are old: a replay


def made(store: MemoryStore | None = None, **more: Any) -> PartitionProcessor:
    task = PartitionProcessor(
        PartitionConfig(sources=("clickstream",)), decode, store or MemoryStore(), TOPICS, commands="commands", **more
    )
    task.adopt(version(1, 3))
    task.cut(0)
    task.continue_pass(1)
    return task


def event(user: str, time: int, kind: str = "view", **more: Any) -> dict[str, Any]:
    return {"user_id": user, "event_time": time, "event_type": kind} | more


def test_an_idle_hour_after_a_replay_is_an_hour_of_its_time() -> None:
    task = made()
    task.add(records([event("a", T)] * 3))
    task.run(WALL, {"clickstream": 3})
    assert task.progress.watermark == T - 5 * MINUTE
    task.run(WALL + 4 * MINUTE, {"clickstream": 3})
    assert task.progress.watermark == T - 5 * MINUTE  # whole panes only
    task.run(WALL + 11 * MINUTE, {"clickstream": 3})
    task.run(WALL + 61 * MINUTE, {"clickstream": 3})
    assert task.progress.watermark == T + 55 * MINUTE
    task.sweep(10)
    task.cut(0)
    assert task.counts["exits"] == 0  # the pane leaves after an hour and five minutes
    task.run(WALL + 71 * MINUTE, {"clickstream": 3})
    task.sweep(10)
    assert task.counts["exits"] == 1


def test_a_backlog_is_not_judged_by_the_wall_clock() -> None:
    task = made()
    task.add(records([event("a", T)]))
    for minutes in (0, 60, 6_000):
        task.run(WALL + minutes * MINUTE, {"clickstream": 9})
        assert task.progress.watermark == T - 5 * MINUTE
    task.run(WALL + 6_001 * MINUTE, {"clickstream": None})  # an end that is not known yet is none
    assert task.progress.watermark == T - 5 * MINUTE


def test_idle_time_goes_on_over_a_restart_and_never_past_the_wall_clock() -> None:
    store = MemoryStore()
    task = made(store)
    task.add(records([event("a", T)]))
    task.run(T + MINUTE, {"clickstream": 1})
    flush = task.cut(T + MINUTE)
    assert flush is not None
    store.put_many({PROGRESS_KEY: flush.rows[PROGRESS_KEY]})
    later = made(store)
    later.run(T + 122 * MINUTE, {"clickstream": 1})
    assert later.progress.watermark == T + 115 * MINUTE
    ahead = made()
    ahead.add(records([event("a", T)]))
    ahead.run(T - 20 * MINUTE, {"clickstream": 1})  # the machine's clock is behind
    ahead.run(T + 2 * MINUTE, {"clickstream": 1})
    assert ahead.progress.watermark == T


def test_the_journal_says_what_was_applied_in_which_order() -> None:
    task = made(journal=True)
    task.add(records([event("a", T), event("b", T + 1), {"user_id": "c", "event_time": T, "event_type": 3}]))
    task.run(WALL, {"clickstream": 3})
    task.run(WALL + 10 * MINUTE, {"clickstream": 3})
    task.sweep(10)
    task.adopt(version(2, 4))
    flush = task.cut(0)
    assert flush is not None
    wm = T - 5 * MINUTE + 10 * MINUTE
    assert task.progress.journal == []
    said = progress.loads(flush.rows[PROGRESS_KEY] or b"")
    assert said.journal == [[Entry.RECORDS, 0, 3], [Entry.RAISED, wm, 0], [Entry.SWAP, 2, wm]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(2, 80))
def test_any_order_of_arrival_within_the_bound_gives_the_same_counters(seed: int, n: int) -> None:
    """All windowed columns but orders and sessions; an event that comes twice counts once."""
    rng = np.random.default_rng(seed)
    time = T + np.cumsum(rng.integers(0, 4 * MINUTE, n))
    kinds = ("page_view", "view", "search", "add_to_cart", "purchase", "refund")
    events = [
        event(f"u{rng.integers(3)}", int(t), str(rng.choice(kinds)), price=float(rng.integers(99)), event_id=f"{i}")
        for i, t in enumerate(time.tolist())
    ]
    late = np.argsort(time + rng.integers(0, 5 * MINUTE, n), kind="stable")  # at most the bound behind the newest
    twice = [events[i] for i in late.tolist() for _ in range(int(rng.integers(1, 3)))]
    now = int(time.max()) + int(rng.integers(0, 3 * DAY))
    assert table(twice, now) == table(events, now)


def table(events: list[dict[str, Any]], now: int) -> list[dict[str, Any]]:
    store = MemoryStore()
    task = made(store)
    task.add(records(events))
    task.run(0, {"clickstream": len(events)})
    users = sorted(key for key in store.rows if key[:1] != b"\0")
    found: pa.Table = feature_table.table(users, [store.rows[user] for user in users], now)
    counters = [name for name in found.column_names if not name.startswith(("orders", "sessions", "segment"))]
    lines: list[dict[str, Any]] = found.select(counters).to_pylist()
    return lines


@pytest.mark.parametrize("hours", [2, 30, 24 * 8, 24 * 31])
def test_a_late_event_that_changes_the_segment_says_late(hours: int) -> None:
    task = made()
    task.add(records([event("a", T), event("b", T + hours * HOUR)]))
    task.run(0, {"clickstream": 2})
    task.sweep(10)
    task.cut(0)
    kinds = ("search", "add_to_cart", "purchase", "page_view")
    many = [event("a", T + HOUR, kind, price=500.0, quantity=9) for kind in kinds for _ in range(20)]
    task.add(records(many, first=2))
    task.run(0, {"clickstream": 82})
    assert task.counts["change:late"] >= (1 if hours < 24 * 30 else 0)
    assert task.counts["change:behaviour"] == 0
