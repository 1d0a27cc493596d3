"""Rebalances that come while a worker recovers, on real Kafka: nothing begins before its own partitions are recovered.

The workers' processes are slowed where two rebalances can overtake each other, and their fetches of the changelog are
held back. The disk it recovers from is empty, old, or in step with the changelog.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.progress import PROGRESS_KEY, Progress, loads
from tests.deployed import Deployed
from tests.faults.order import steps_back
from tests.processes import committed, wait_for
from tests.support.forks import Process

pytestmark = pytest.mark.kafka
EVENTS = 3_000  # in each half
LATE = 9.0  # seconds: longer than it takes the group to miss a member that was killed

# Files in the folder say what is slowed. `hold`: the changelog of these partitions is not fetched. `late-start`,
# `late-end`: so many seconds pass between an assignment and what Faust starts on it, and before Faust tells that this
# has ended. SIGWINCH: join the group again at once.
PROGRAM = """
import asyncio, pathlib, signal, sys
folder = pathlib.Path({folder!r})
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.tables.manager import TableManager

fetched = Fetcher._proc_fetch_request
async def held(self, *arguments):
    out = await fetched(self, *arguments)
    hold = (folder / "hold").read_text().split() if (folder / "hold").exists() else []
    for tp in list(self._records):
        if tp.topic.endswith("-changelog") and str(tp.partition) in hold:
            self._records.pop(tp, None)
            await asyncio.sleep(0.05)
    return out
Fetcher._proc_fetch_request = held

async def late(name):
    if (folder / name).exists():
        await asyncio.sleep(float((folder / name).read_text()))

update = TableManager._update_channels
async def updated(self):
    await late("late-start")
    await update(self)
TableManager._update_channels = updated

made, coordinators = GroupCoordinator.__init__, []
def make(self, *arguments, **more):
    made(self, *arguments, **more)
    if self.group_id == {group!r}:
        coordinators.append((self, asyncio.get_running_loop()))
GroupCoordinator.__init__ = make
def rejoin(*_):
    coordinator, loop = coordinators[-1]
    loop.call_soon_threadsafe(coordinator.request_rejoin)
signal.signal(signal.SIGWINCH, rejoin)

import streams.faust_app
build = streams.faust_app.build
def built(worker):
    app = build(worker)
    app.on_rebalance_complete.connect(lambda *_, **__: late("late-end"))
    return app
streams.faust_app.build = built
from streams.cli import main
main()
"""


class Shop(Deployed):
    """A deployment of two partitions, and workers that can be held and slowed."""

    removes_dead_members = False  # a rebalance when a session expires is what these tests are about

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        super().__init__(bootstrap, prefix, folder, **{"topics.partitions": 2, "state.flush_interval": 0.1})
        self.group = f"{self.settings.prefix}{self.settings.application}"
        self.latest = folder / "first"  # whose disk is in step with the changelog

    def worker(self, name: str) -> Any:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        code = PROGRAM.format(folder=str(self.folder), group=self.group)
        return self.run(program=[sys.executable, "-c", code], folder=folder)

    def slow(self, *hold: int, **late: float) -> None:
        """What is slowed from now on: the changelog of partitions; seconds of start and end. Nothing else is."""
        wanted = {"hold": " ".join(map(str, hold)), "late-start": late.get("start"), "late-end": late.get("end")}
        for name, value in wanted.items():
            path = self.folder / name
            if value:
                (self.folder / "new").write_text(str(value))
                (self.folder / "new").replace(path)
            else:
                path.unlink(missing_ok=True)

    def assigned(self, name: str) -> list[set[int]]:
        """The assignments that a worker has had."""
        told = rf"Setting newly assigned partitions (.*) for group {self.group}$"
        found = re.findall(told, (self.folder / name / "worker.log").read_text(), re.MULTILINE)
        return [{int(number) for number in re.findall(r"partition=(\d+)", one)} for one in found]

    def ready_lines(self, name: str) -> int:
        """How often a worker has said that it is ready."""
        return (self.folder / name / "worker.log").read_text().count("shoal: ready ")

    def rejoin(self, name: str, process: Process) -> None:
        """Another assignment of a worker, told at once."""
        before = len(self.assigned(name))
        process.send_signal(signal.SIGWINCH)
        wait_for(lambda: len(self.assigned(name)) > before, "another assignment", 30.0)

    def progress(self) -> dict[int, list[Progress]]:
        """All progress records of each partition."""
        found: dict[int, list[Progress]] = {0: [], 1: []}
        for record in committed(self.settings, self.settings.changelog):
            if record.key == PROGRESS_KEY:
                found[record.partition].append(loads(record.value))
        return found

    def complete(self, *running: Process) -> None:
        """All that was sent is counted once, and no progress went back."""

        def counted() -> bool:
            assert [one.poll() for one in running] == [None] * len(running)
            return sum(self.counted().values()) >= sum(self.sent.values())

        wait_for(counted, "all that was sent")
        assert self.counted() == dict(self.sent)
        assert {number: steps_back(found) for number, found in self.progress().items()} == {0: [], 1: []}


@pytest.fixture(scope="module")
def shop(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """With two halves of a history; the second worker's disk holds the first half alone."""
    made = Shop(kafka, f"rebalances-{time.time_ns()}-", tmp_path_factory.mktemp("shop"))
    for name in ("second", "first"):
        with made.worker(name) as process:
            made.send(EVENTS)
            made.complete(process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    return made


def empty(shop: Shop, path: Path) -> None:
    """No disk."""


def old(shop: Shop, path: Path) -> None:
    shutil.copytree(shop.folder / "second" / "state", path)


def in_step(shop: Shop, path: Path) -> None:
    shutil.copytree(shop.latest / "state", path)


@pytest.mark.parametrize("disk", [in_step, old, empty])
def test_rebalances_within_a_recovery(shop: Shop, disk: Callable[[Shop, Path], None]) -> None:
    run = sum(1 for _ in shop.folder.glob("*-one"))
    one, two = f"{run}-one", f"{run}-two"
    for name in (one, two):
        (shop.folder / name).mkdir()
        disk(shop, shop.folder / name / "state")
    shop.slow(*() if disk is in_step else (0, 1), start=0.5, end=0.5)
    with shop.worker(one) as first:
        wait_for(lambda: shop.assigned(one) == [{0, 1}], "the first assignment")
        before = {number: len(found) for number, found in shop.progress().items()}
        shop.send(EVENTS)
        for _ in range(2):  # two more assignments within the recovery
            time.sleep(1.0)
            shop.rejoin(one, first)
        with shop.worker(two) as second:  # a partition is taken away
            wait_for(lambda: len(shop.assigned(two)) == 1, "the second worker")
            wait_for(lambda: len(shop.assigned(one)[-1]) == 1, "the first one to have one partition")
            (kept,), (given,) = shop.assigned(one)[-1], shop.assigned(two)[-1]
            held = () if disk is in_step else (given,)
            shop.slow(*held)
            wait_for(lambda: len(shop.progress()[kept]) > before[kept], "the partition that is not held to go on")
            shop.slow(*held, end=LATE)
            shop.rejoin(one, first)  # both keep what they have, and the end of that is told late
            wait_for(lambda: shop.assigned(one)[-1] == {kept}, "the same assignment")
            times = len(shop.assigned(one))
            time.sleep(1.0)
            shop.slow(*held, end=LATE, start=LATE)
            second.kill()  # the other partition is given back before
        wait_for(lambda: len(shop.assigned(one)) > times, "the other partition to be given back")
        assert shop.assigned(one)[-1] == {0, 1}
        if held:
            ready = shop.ready_lines(one)
            time.sleep(LATE / 2)  # beyond the end of the assignment before
            assert shop.ready_lines(one) == ready, "a worker was ready although a changelog is held back"
            assert len(shop.progress()[given]) == before[given], "a partition whose changelog is held back has begun"
        shop.slow()
        shop.complete(first)
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
    shop.latest = shop.folder / one
