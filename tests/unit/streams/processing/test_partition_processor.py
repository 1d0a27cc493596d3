"""Any split of a stream into batches, any moment of the pass: the same rows and the same outputs, byte for byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.training_rows import FIRST_DAY_ROW
from state import expiry_index, windows
from state.stores.memory import MemoryStore
from streams.processing.outputs.output_buffer import Flush, Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import PROGRESS_KEY
from tests.build import foretelling, records, stream, version
from tests.support.decoding import decode

TOPICS = Topics("changes", "segments", "alerts", "dead", "training", "receipts")
RULE = PartitionConfig(sources=("clickstream",), forget=35 * windows.DAY)
ONE, TWO = (foretelling(version(number, number + 2, hysteresis=0.2)) for number in (1, 2))


@dataclass(frozen=True)
class Scene:
    """What happens whatever the cuts: a swap, and commands, each before the event of its number."""

    events: list[dict[str, Any]]
    swap_at: int
    commands: dict[int, dict[str, Any]] = field(default_factory=dict)


def settle(task: PartitionProcessor, limit: int = 3) -> None:
    """Sweep up to the watermark."""
    while task.progress.sweeping or task.progress.swept < task.progress.watermark:
        task.sweep(limit)


def play(scene: Scene, cuts: list[int], sweeps: list[int]) -> tuple[dict, list, list, dict]:
    """Run a stream with version 1 from the start; sweeps: events before which sweep and pass go on by one user."""
    store = MemoryStore()
    task = PartitionProcessor(RULE, decode, store, TOPICS, commands="commands")
    task.adopt(ONE)
    flushes: list[Flush | None] = [task.cut(0)]
    task.continue_pass(10)
    events, swap_at = scene.events, scene.swap_at
    end, sent = len(events), 0
    asked = {min(at, end): command for at, command in scene.commands.items()}
    bounds = sorted({0, end, swap_at, *asked, *(at for at in (*cuts, *sweeps) if at < end)})
    for a, b in pairwise([*bounds, end]):
        if a == swap_at:
            settle(task)
            task.adopt(TWO)
            flushes.append(task.cut(0))
        if a in sweeps:
            task.sweep(1)
            task.continue_pass(1)
        if a in asked:
            task.add(records([asked[a]], topic="commands", first=sent))
            task.run(1 << 60, {"clickstream": end})
            sent += 1
        if b > a:
            task.add(records(events[a:b], first=a))
            task.run(1 << 60, {"clickstream": end})
        flushes.append(task.cut(0))
    while task.continue_pass(2):
        pass
    settle(task)
    flushes.append(task.cut(0))
    said = [item for flush in flushes if flush for item in flush.outputs.items()]
    outputs = [(topic, key, value) for (topic, _), records in said for key, value, _ in records]
    changes: dict[tuple[str, bytes], list[bytes | None]] = {}
    for topic, key, value in outputs:
        if topic in ("changes", "segments", "alerts"):
            changes.setdefault((topic, key or b""), []).append(value)
    wanted = ("training", "dead", "receipts")
    others = [[(key, value) for topic, key, value in outputs if topic == name] for name in wanted]
    others[0], days = [  # who asks for the end of a user's first day makes a difference to when it is told alone
        [one for one in others[0] if (one[1][4] == FIRST_DAY_ROW) == day] for day in (False, True)
    ]
    others.append(sorted(days))
    rows = {k: v for k, v in store.rows.items() if k != PROGRESS_KEY}
    assert expiry_index.entries(list(rows), list(rows.values()), task.progress.swept, RULE.forget).keys() <= store.index
    assert task.progress.users == len(rows)
    sizes = {k: v for k, v in task.progress.sizes.items() if v}
    return rows, sorted(changes.items()), others, sizes


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 60), st.lists(st.integers(0, 60), max_size=5), st.data())
def test_any_split_gives_the_same(seed: int, n: int, cuts: list[int], data: st.DataObject) -> None:
    """Events in order, late and repeated, rejects, exits, ends, erasures, jumps of the watermark and a swap."""
    events = stream(np.random.default_rng(seed), n, 4)
    first, last = events[0]["event_time"], events[-1]["event_time"]
    commands: dict[int, dict[str, Any]] = {}
    for at in data.draw(st.lists(st.integers(0, n), max_size=3, unique=True)):
        ask = {"command": "erase", "user_id": f"u{data.draw(st.integers(0, 3))}"}
        if data.draw(st.booleans()):
            later = data.draw(st.sampled_from([0, 40 * 60_000, 5 * 3_600_000, 31 * 86_400_000, 90 * 86_400_000]))
            ask = {"command": "advance", "user_id": "x", "to": max(0, max(first, last) + later)}
        commands[at] = ask | {"request_id": f"r{at}", "event_time": 0}
    scene = Scene(events, data.draw(st.integers(1, n)), commands)
    sweeps = data.draw(st.lists(st.integers(0, 60), max_size=8))
    whole = play(scene, [], [])
    assert play(scene, list(range(n)), sweeps) == whole
    assert play(scene, cuts, sweeps) == whole
    assert play(scene, list(range(n)), list(range(n))) == whole
    assert sum(whole[3].values()) == len(whole[0])


def test_a_repeat_changes_nothing() -> None:
    event = {"event_time": 1_700_000_000_000, "event_type": "view", "user_id": "a", "event_id": "x"}
    once = play(Scene([event], 1), [], [])
    assert play(Scene([event, event], 2), [], [])[0] == once[0]


def test_rejects_stop_the_task_once_what_it_has_is_cut() -> None:
    task = PartitionProcessor(RULE, decode, MemoryStore(), TOPICS, reject_window=10)
    bad = [{"event_time": 1_700_000_000_000, "event_type": "view", "user_id": "a", "price": -1}] * 10
    task.add(records(bad))
    task.run(0, {"clickstream": 10})
    flush = task.cut(0)
    assert flush is not None
    assert {at: len(of) for at, of in flush.outputs.items()} == {("dead", 0): 10}
    assert flush.acked == {"clickstream": 10}
    assert "bad_price" in (task.progress.stopped or "")


def test_progress_goes_on_in_another_task() -> None:
    events = stream(np.random.default_rng(5), 40, 4)
    whole = play(Scene(events, 40), [], [])
    store = MemoryStore()
    first = PartitionProcessor(RULE, decode, store, TOPICS)
    first.adopt(ONE)
    first.cut(0)
    first.continue_pass(10)
    first.add(records(events[:20]))
    first.run(0, {"clickstream": 40})
    flush = first.cut(0)
    assert flush is not None
    store.rows[PROGRESS_KEY] = flush.rows[PROGRESS_KEY]
    second = PartitionProcessor(RULE, decode, store, TOPICS)
    assert second.positions() == {"clickstream": 20}
    assert second.missing_version() == 1
    second.adopt(ONE)
    second.add(records(events[20:], first=20))
    assert second.run(0, {"clickstream": 40}) == 20
    settle(second)
    second.adopt(TWO)
    second.cut(0)
    while second.continue_pass(3):
        pass
    settle(second)
    assert {k: v for k, v in store.rows.items() if k != PROGRESS_KEY} == whole[0]
