"""What a worker owns: a later assignment follows a closed one, and a worker that has ended takes none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from state.stores.rocksdb import RowStore
from streams.config.settings import Settings, load
from streams.errors import RecoveryError
from streams.kafka import changelog
from streams.processing import progress
from streams.processing.progress import PROGRESS_KEY, Progress, Serial
from streams.runtime import assignment, worker
from streams.runtime.log_bounds import LogBounds


class Producer:
    """A publisher that is there once it is let; how many are open."""

    open = 0
    slow = 0.0  # seconds that a stop takes
    free: asyncio.Event

    def __init__(self, *_: object) -> None:
        self.committed = Serial(0, 0)

    async def start(self) -> None:
        Producer.open += 1
        await Producer.free.wait()

    async def stop(self) -> None:
        await asyncio.sleep(Producer.slow)
        Producer.open -= 1


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = load(environ={}, **{"state.datadir": str(tmp_path), "topics.partitions": 2})
    topics = (*settings.source_topics, "commands", settings.changelog)
    every = [(name, number) for name in topics for number in range(2)]
    bounds = LogBounds(dict.fromkeys(topics, "id"), dict.fromkeys(every, 0), dict.fromkeys(every, 0), {}, 1 << 40)
    Producer.open, Producer.slow, Producer.free = 0, 0.0, asyncio.Event()
    monkeypatch.setattr(assignment, "Publisher", Producer)
    monkeypatch.setattr(assignment, "read_log_bounds", lambda *_: bounds)
    return settings


async def newest(_: Settings, numbers: list[int]) -> dict[int, Serial]:
    return {}


async def until(condition: object) -> None:
    async with asyncio.timeout(20):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_only_the_last_of_several_assignments_begins(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changelog, "newest_serials", newest)
    one = worker.Worker(settings)
    read: list[tuple[int, set[tuple[str, int]]]] = []

    async def reading(number: int, positions: Mapping[tuple[str, int], int]) -> None:
        read.append((number, set(positions)))

    monkeypatch.setattr(one, "_start_reading", reading)
    one.assign({0, 1})
    await until(lambda: Producer.open == 2)  # it waits for its producers
    one.assign({0})
    one.assign({1})
    Producer.free.set()
    assert not one.ready
    await until(lambda: one.ready)
    assert [number for number, _ in read] == [3]
    assert {partition for _, partition in read[0][1]} == {1}
    assert set(one.partitions) == {1}
    assert Producer.open == 1
    await one.revoke()
    assert not one.ready
    await one.close()
    assert (Producer.open, one.partitions) == (0, {})
    one.assign({0, 1})  # told while it ends
    await asyncio.sleep(0.05)
    assert (Producer.open, one.ready) == (0, False)


async def test_a_store_is_opened_once_those_before_are_closed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the assignment between opened nothing, and where a client suppressed the cancellation."""
    suppressed = 0

    async def stubborn(_: Settings, numbers: list[int]) -> dict[int, Serial]:
        nonlocal suppressed
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            suppressed += 1
            await asyncio.sleep(0.05)
        return {}

    monkeypatch.setattr(changelog, "newest_serials", stubborn)
    failed: list[BaseException] = []
    read: list[int] = []
    one = worker.Worker(settings)
    monkeypatch.setattr(worker, "exit_with_error", failed.append)

    async def reading(number: int, positions: Mapping[tuple[str, int], int]) -> None:
        read.append(number)

    monkeypatch.setattr(one, "_start_reading", reading)
    Producer.slow = 0.1
    Producer.free.set()
    one.assign({0, 1})
    await until(lambda: len(one.partitions) == 2)  # open, and about to look for the newest progress
    await asyncio.sleep(0.01)
    one.assign({0})
    one.assign({0, 1})
    await until(lambda: one.ready or failed)
    assert (failed, read, suppressed) == ([], [3], 1)
    await one.revoke()
    await one.revoke()
    await one.close()
    assert (Producer.open, failed) == (0, [])


async def test_a_progress_that_is_not_the_newest_begins_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the recovery says of itself."""

    async def ahead(_: Settings, numbers: list[int]) -> dict[int, Serial]:
        return {number: Serial(8, 40) for number in numbers}

    monkeypatch.setattr(changelog, "newest_serials", ahead)
    store_of = assignment.open_store

    def opened(*arguments: object, **more: object) -> RowStore:
        store = store_of(*arguments, **more)  # type: ignore[arg-type]
        store.apply([PROGRESS_KEY], [progress.dumps(Progress(number=7, ordinal=40))], 0)
        return store

    monkeypatch.setattr(assignment, "open_store", opened)
    failed: list[BaseException] = []
    one = worker.Worker(settings)
    monkeypatch.setattr(worker, "exit_with_error", failed.append)
    Producer.free.set()
    one.assign({1})
    await until(lambda: failed)
    assert isinstance(failed[0], RecoveryError)
    assert str(failed[0]) == (
        f"partition 1: the newest progress in {settings.changelog}/1 is number 8 after 40 records, the recovered one "
        "is number 7 after 40 records: the partition was not started"
    )
    assert not one.ready
    await one.close()


def test_sources_that_nobody_resumes_end_the_worker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(worker.time, "monotonic", lambda: now)
    one: Any = worker.Worker(settings)
    one._assignment = SimpleNamespace(ready=True)
    one.app = SimpleNamespace(consumer=SimpleNamespace(flow_active=False))
    one._check_reading()
    now += settings.state.recovery_deadline
    one._check_reading()
    one.app.consumer.flow_active = True
    one._check_reading()  # what it has waited is forgotten
    one.app.consumer.flow_active = False
    now += 1.0
    one._check_reading()
    now += settings.state.recovery_deadline + 1.0
    with pytest.raises(RecoveryError, match="the sources are not read"):
        one._check_reading()
