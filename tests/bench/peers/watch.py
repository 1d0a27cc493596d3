"""What the runner sees of an engine from outside: processor time and memory of its processes, and its records."""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams.kafka.reader import reading
from tests.bench.measure import TICK, memory_mib
from tests.bench.peers.engine import Process
from tests.bench.peers.topics import settings_of

EVERY = 0.2  # seconds between two samples


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_of(pids: Iterable[int]) -> float:
    """User and system seconds of processes, and of their children that have ended."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, after_name[11:15]))
    return total / TICK


def resident_mib(pids: Iterable[int]) -> float:
    total = 0.0
    for pid in pids:
        with suppress(OSError, ValueError):
            total += memory_mib(pid, "VmRSS")
    return total


class Sampler:
    """Samples a process tree in a thread, from enter to exit."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._times: list[float] = []  # wall clock, s
        self._cpu: list[float] = []
        self.peak_mib = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.sample()
            self._ended.wait(EVERY)

    def sample(self) -> None:
        pids = tree(self._pid)
        self._times.append(time.time())
        self._cpu.append(cpu_of(pids))
        self.peak_mib = max(self.peak_mib, resident_mib(pids))

    def cpu_at(self, moment: float) -> float:
        """CPU-seconds at a moment (wall clock, s), between the samples around it."""
        i = bisect_left(self._times, moment)
        if i == 0:
            return self._cpu[0] if self._cpu else 0.0
        if i == len(self._times):
            return self._cpu[-1]
        before, after = self._times[i - 1], self._times[i]
        share = (moment - before) / (after - before)
        return self._cpu[i - 1] + share * (self._cpu[i] - self._cpu[i - 1])


@dataclass(slots=True)
class Seen:
    """Committed records: when a reader had them, and when the broker appended them (wall clock, s)."""

    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    appended: list[float] = field(default_factory=list)

    def first(self, key: bytes) -> int:
        return self.keys.index(key)


class Records:
    """Reads an output topic as committed, from its start on or from its end on; an async context."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, *, from_end: bool = False) -> None:
        self._settings = settings_of(bootstrap, topic, partitions)
        self._at = [TopicPartition(topic, number) for number in range(partitions)]
        self._from_end = from_end
        self.seen = Seen()

    async def __aenter__(self) -> Self:
        self._context = reading(self._settings)
        self._consumer: AIOKafkaConsumer = await self._context.__aenter__()
        self._consumer.assign(self._at)
        await (self._consumer.seek_to_end if self._from_end else self._consumer.seek_to_beginning)(*self._at)
        for tp in self._at:
            await self._consumer.position(tp)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._context.__aexit__(*error)

    async def poll(self, seconds: float) -> int:
        """What has come within some seconds, at most; returns how many."""
        batches = await self._consumer.getmany(timeout_ms=int(seconds * 1000))
        now, count = time.time(), 0
        for records in batches.values():
            for record in records:
                self.seen.keys.append(record.key)
                self.seen.values.append(record.value)
                self.seen.arrived.append(now)
                self.seen.appended.append(record.timestamp / 1000)
                count += 1
        return count

    async def until(self, users: Iterable[bytes], process: Process, seconds: float) -> None:
        """Read on until there is a record of each of these users. RuntimeError where the process ends before, or after
        that many seconds."""
        left, looked = set(users), len(self.seen.keys)
        left -= set(self.seen.keys)
        deadline = time.monotonic() + seconds
        while left:
            await self.poll(0.2)
            left -= set(self.seen.keys[looked:])
            looked = len(self.seen.keys)
            process.check()
            if left and time.monotonic() > deadline:
                raise RuntimeError(
                    f"no record of {len(left)} of the markers within {seconds:.0f} s ({looked} records were read); "
                    f"the end of its log:\n{process.tail(8)}"
                )

    async def drain(self, seconds: float = 1.0) -> None:
        """Until nothing has come for that long."""
        while await self.poll(seconds):
            await asyncio.sleep(0)
