"""Any split of a stream into batches, any moment of the pass: the same rows and the same outputs, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import RejectsError
from streams.progress import PROGRESS_KEY
from streams.records import RecordBatch
from streams.step import Rule
from streams.task import Flush, Task, Topics
from streams.wire.events import EventBatch
from tests.build import decoded, records, stream, version

TOPICS = Topics("changes", "segments", "alerts", "dead", "training")
RULE = Rule(sources=("clickstream",))
ONE, TWO = version(1, 3), version(2, 4)


class MemoryRows:
    """Rows in a dict: what a task needs of a store."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes | None] = {}

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.rows.get(key) for key in keys]

    def put_many(self, rows: Mapping[bytes, bytes | None]) -> None:
        self.rows.update(rows)

    def scan(self, after: bytes | None, limit: int) -> list[bytes]:
        return sorted(k for k in self.rows if k[:1] != b"\0" and (after is None or k > after))[:limit]


def decode(batch: RecordBatch, source: int, key_before: int, now: int | None) -> EventBatch:
    return decoded(batch, source=source, key_before=key_before, now=None)


def play(events: list[dict], cuts: list[int], swap_at: int, sweeps: list[int]) -> tuple[dict, list, list, dict]:
    """Run a stream with versions 1 from the start and 2 at an event; sweeps: events after which the pass goes on."""
    store = MemoryRows()
    task = Task(RULE, decode, store, TOPICS)
    task.adopt(ONE)
    flushes: list[Flush | None] = [task.cut(0)]
    while task.sweep(10):
        flushes.append(task.cut(0))
    end = len(events)
    bounds = sorted({0, end, swap_at, *(c for c in cuts if c < end), *(s for s in sweeps if s < end)})
    for a, b in pairwise(bounds):
        if a == swap_at:
            flushes.append(task.cut(0))
            task.adopt(TWO)
            flushes.append(task.cut(0))
        if a in sweeps:
            task.sweep(1)
        task.offer(records(events[a:b], first=a))
        task.run(1 << 60, {"clickstream": end})
        flushes.append(task.cut(0))
    if swap_at == end:
        task.adopt(TWO)
        flushes.append(task.cut(0))
    while task.sweep(2):
        pass
    flushes.append(task.cut(0))
    sent = [item for flush in flushes if flush for item in flush.outputs.items()]
    outputs = [(topic, key, value) for (topic, _), records in sent for key, value, _ in records]
    changes: dict[tuple[str, bytes], list[bytes]] = {}
    for topic, key, value in outputs:
        if topic in ("changes", "alerts"):
            changes.setdefault((topic, key or b""), []).append(value or b"")
    others = [[(key, value) for topic, key, value in outputs if topic == wanted] for wanted in ("training", "dead")]
    rows = {k: v for k, v in store.rows.items() if k != PROGRESS_KEY}
    sizes = {k: v for k, v in task.progress.sizes.items() if v}
    return rows, sorted(changes.items()), others, sizes


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 60), st.lists(st.integers(0, 60), max_size=5), st.data())
def test_any_split_gives_the_same(seed: int, n: int, cuts: list[int], data: st.DataObject) -> None:
    events = stream(np.random.default_rng(seed), n, 4)
    swap_at = data.draw(st.integers(1, n))
    sweeps = data.draw(st.lists(st.integers(swap_at, 60), max_size=4))
    whole = play(events, [], swap_at, [])
    assert play(events, list(range(n)), swap_at, sweeps) == whole
    assert play(events, cuts, swap_at, sweeps) == whole
    assert sum(whole[3].values()) == len(whole[0])


def test_a_repeat_changes_nothing() -> None:
    event = {"event_time": 1_700_000_000_000, "event_type": "view", "user_id": "a", "event_id": "x"}
    once = play([event], [], 1, [])
    assert play([event, event], [], 2, [])[0] == once[0]


def test_rejects_stop_the_task_once_what_it_has_is_cut() -> None:
    task = Task(RULE, decode, MemoryRows(), TOPICS, reject_window=10)
    bad = [{"event_time": 1_700_000_000_000, "event_type": "view", "user_id": "a", "price": -1}] * 10
    task.offer(records(bad))
    task.run(0, {"clickstream": 10})
    flush = task.cut(0)
    assert flush is not None
    assert {at: len(of) for at, of in flush.outputs.items()} == {("dead", 0): 10}
    assert flush.acked == {"clickstream": 10}
    with pytest.raises(RejectsError, match="bad_price"):
        task.check()


def test_progress_goes_on_in_another_task() -> None:
    events = stream(np.random.default_rng(5), 40, 4)
    whole = play(events, [], 40, [])
    store = MemoryRows()
    first = Task(RULE, decode, store, TOPICS)
    first.adopt(ONE)
    first.cut(0)
    first.sweep(10)
    first.offer(records(events[:20]))
    first.run(0, {"clickstream": 40})
    flush = first.cut(0)
    assert flush is not None
    store.rows[PROGRESS_KEY] = flush.rows[PROGRESS_KEY]
    second = Task(RULE, decode, store, TOPICS)
    assert second.positions() == {"clickstream": 20}
    assert second.needs() == 1
    second.adopt(ONE)
    second.offer(records(events[20:], first=20))
    assert second.run(0, {"clickstream": 40}) == 20
    second.adopt(TWO)
    second.cut(0)
    while second.sweep(3):
        pass
    assert {k: v for k, v in store.rows.items() if k != PROGRESS_KEY} == whole[0]
