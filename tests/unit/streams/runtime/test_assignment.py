"""Assignments follow each other: each closes the one before it first, and a closed worker takes none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from state.stores import rocksdb
from state.stores.rocksdb import RowStore
from state.windows import UNIT
from streams.config.settings import Settings, load
from streams.errors import RecoveryError
from streams.kafka import changelog
from streams.processing import progress
from streams.processing.progress import PROGRESS_KEY, Progress, Serial
from streams.runtime import assignment, worker
from streams.runtime.log_bounds import LogBounds
from tests.unit.state.stores.test_rocksdb import row


class Producer:
    """A publisher whose start waits for the event `released`; counts how many are open."""

    open = 0
    stop_seconds = 0.0
    released: asyncio.Event

    def __init__(self, *_: object) -> None:
        self.committed = Serial(0, 0)

    async def start(self) -> None:
        Producer.open += 1
        await Producer.released.wait()

    async def stop(self) -> None:
        await asyncio.sleep(Producer.stop_seconds)
        Producer.open -= 1


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = load(environ={}, **{"state.datadir": str(tmp_path), "topics.partitions": 2})
    topics = (*settings.source_topics, "commands", settings.changelog)
    partitions = [(name, number) for name in topics for number in range(2)]
    bounds = LogBounds(
        dict.fromkeys(topics, "id"), dict.fromkeys(partitions, 0), dict.fromkeys(partitions, 0), {}, 1 << 40
    )
    Producer.open, Producer.stop_seconds, Producer.released = 0, 0.0, asyncio.Event()
    monkeypatch.setattr(assignment, "Publisher", Producer)
    monkeypatch.setattr(assignment, "read_log_bounds", lambda *_: bounds)
    return settings


async def newest(_: Settings, numbers: list[int]) -> dict[int, Serial]:
    return {}


async def until(condition: object) -> None:
    async with asyncio.timeout(20):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_only_the_last_of_several_assignments_starts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changelog, "newest_serials", newest)
    running = worker.Worker(settings)
    read: list[tuple[int, set[tuple[str, int]]]] = []

    async def reading(number: int, positions: Mapping[tuple[str, int], int]) -> None:
        read.append((number, set(positions)))

    monkeypatch.setattr(running, "_start_reading", reading)
    running.assign({0, 1})
    await until(lambda: Producer.open == 2)  # the assignment waits for its producers
    running.assign({0})
    running.assign({1})
    Producer.released.set()
    assert not running.ready
    await until(lambda: running.ready)
    assert [number for number, _ in read] == [3]
    assert {partition for _, partition in read[0][1]} == {1}
    assert set(running.partitions) == {1}
    assert Producer.open == 1
    await running.revoke()
    assert not running.ready
    await running.close()
    assert (Producer.open, running.partitions) == (0, {})
    running.assign({0, 1})  # while it ends
    await asyncio.sleep(0.05)
    assert (Producer.open, running.ready) == (0, False)


async def test_a_store_is_opened_after_the_one_before_is_closed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the assignment in between opened nothing, and a client suppressed the cancellation."""
    suppressed = 0

    async def suppresses_cancellation(_: Settings, numbers: list[int]) -> dict[int, Serial]:
        nonlocal suppressed
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            suppressed += 1
            await asyncio.sleep(0.05)
        return {}

    monkeypatch.setattr(changelog, "newest_serials", suppresses_cancellation)
    failed: list[BaseException] = []
    read: list[int] = []
    running = worker.Worker(settings)
    monkeypatch.setattr(worker, "exit_with_error", failed.append)

    async def reading(number: int, positions: Mapping[tuple[str, int], int]) -> None:
        read.append(number)

    monkeypatch.setattr(running, "_start_reading", reading)
    Producer.stop_seconds = 0.1
    Producer.released.set()
    running.assign({0, 1})
    await until(lambda: len(running.partitions) == 2)  # open, and about to look up the newest progress
    await asyncio.sleep(0.01)
    running.assign({0})
    running.assign({0, 1})
    await until(lambda: running.ready or failed)
    assert (failed, read, suppressed) == ([], [3], 1)
    await running.revoke()
    await running.revoke()
    await running.close()
    assert (Producer.open, failed) == (0, [])


async def test_a_partition_does_not_start_from_an_older_progress(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def newer(_: Settings, numbers: list[int]) -> dict[int, Serial]:
        return {number: Serial(8, 40) for number in numbers}

    monkeypatch.setattr(changelog, "newest_serials", newer)
    open_store = assignment.open_store

    def open_recovered(*arguments: object, **options: object) -> RowStore:
        store = open_store(*arguments, **options)  # type: ignore[arg-type]
        store.apply([PROGRESS_KEY], [progress.dumps(Progress(number=7, ordinal=40))], 0)
        return store

    monkeypatch.setattr(assignment, "open_store", open_recovered)
    failed: list[BaseException] = []
    running = worker.Worker(settings)
    monkeypatch.setattr(worker, "exit_with_error", failed.append)
    Producer.released.set()
    running.assign({1})
    await until(lambda: failed)
    assert isinstance(failed[0], RecoveryError)
    assert str(failed[0]) == (
        f"partition 1: the newest progress in {settings.changelog}/1 is number 8 after 40 records, the recovered one "
        "is number 7 after 40 records: the partition was not started"
    )
    assert not running.ready
    await running.close()


async def test_an_assignment_can_be_closed_while_it_builds_the_expiry_index(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop runs between two turns of the build; the store is closed after the last of them, and can be opened."""
    monkeypatch.setattr(changelog, "newest_serials", newest)
    monkeypatch.setattr(rocksdb, "INDEX_CHUNK", 2)
    open_store, stores = assignment.open_store, list[RowStore]()

    def open_recovered(*arguments: object, **options: object) -> RowStore:
        store = open_store(*arguments, **options)  # type: ignore[arg-type]
        store.apply([b"u%d" % i for i in range(20)], [row(6_000_000 * UNIT, 6_000_000)] * 20, 0)
        stores.append(store)
        return store

    async def read(number: int, positions: Mapping[tuple[str, int], int]) -> None:
        pass

    monkeypatch.setattr(assignment, "open_store", open_recovered)
    failed: list[BaseException] = []
    running = worker.Worker(settings, accept_loss=True)  # for rows without a progress
    monkeypatch.setattr(worker, "exit_with_error", failed.append)
    monkeypatch.setattr(running, "_start_reading", read)
    Producer.released.set()
    running.assign({1})
    while (recovery := running.recovery) is None or recovery.indexing is None or recovery.indexing[1] < 6:
        await asyncio.sleep(0)
    assert recovery.describe() == "all records are read, the expiry index of partition 1 is being built: 6 users"
    await running.revoke()
    running.assign({1})
    await until(lambda: running.ready or failed)
    assert (failed, len(stores)) == ([], 2)
    assert len(stores[1].due(1 << 31, 100)) == 20
    await running.close()


def test_the_worker_ends_where_the_sources_are_not_resumed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(worker.time, "monotonic", lambda: now)
    running: Any = worker.Worker(settings)
    running._assignment = SimpleNamespace(ready=True)
    running.app = SimpleNamespace(consumer=SimpleNamespace(flow_active=False))
    running._check_reading()
    now += settings.state.recovery_deadline
    running._check_reading()
    running.app.consumer.flow_active = True
    running._check_reading()  # the wait starts anew
    running.app.consumer.flow_active = False
    now += 1.0
    running._check_reading()
    now += settings.state.recovery_deadline + 1.0
    with pytest.raises(RecoveryError, match="the sources are not read"):
        running._check_reading()


async def test_turns_go_round_the_partitions_and_end_where_a_rebalance_takes_one(settings: Settings) -> None:
    running: Any = worker.Worker(settings)
    left = {0: 3, 1: 1, 2: 2}
    partitions = {number: SimpleNamespace(task=number) for number in (2, 0, 1)}
    running._assignment = SimpleNamespace(partitions=partitions)
    had: list[int] = []

    def work(number: int) -> int:
        had.append(number)
        left[number] -= 1
        if len(had) == 3:
            partitions.pop(0)  # between two turns
        return left[number] >= 0

    await running._run_in_turns(work, 0.0)
    assert had == []  # no time
    await running._run_in_turns(work, 100.0)
    assert had == [0, 1, 2, 1, 2, 1, 2]
    partitions[0] = SimpleNamespace(task=None)
    left[1], left[2], had[:] = 1, 1, []
    running._last_turn = 1
    await running._run_in_turns(work, 100.0)
    assert had[:2] == [2, 1]
