"""The stages of a run, each for one engine: correctness, speed, latency, recovery."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer

from streams.processing.partitioner import partitions_of
from tests.bench import traffic
from tests.bench.measure import Figure
from tests.bench.peers import topics
from tests.bench.peers.engine import Engine, Process, Run
from tests.bench.peers.engines.shoal_whole import Whole
from tests.bench.peers.oracle import Changes, Comparison, compare
from tests.bench.peers.topics import Filled, users_of
from tests.bench.peers.watch import Records, Sampler, Seen

BURST = 0.05  # seconds in which the first records are appended
START_SECONDS = 120.0  # an engine may take to its first record
SEND_TICK = 0.005  # seconds between two looks at what is to be sent
WARM_UP = 5.0  # seconds of live traffic before latency is noted
LINGER = 10.0  # seconds that the reader stays after the last event, at least two commits
LIVE = 100_000  # events made for live traffic, sent in a circle


@dataclass(frozen=True, slots=True)
class Place:
    """Where engines are run."""

    bootstrap: str
    home: Path
    partitions: int
    threads: int
    commit: float | None  # the engines' own, where None

    def run(self, engine: Engine, name: str, events: str) -> Run:
        """A run of its own, whose names begin with `name`; its output topic exists."""
        topics.create(self.bootstrap, f"{name}-changes", self.partitions, topics.APPEND_TIME)
        commit = engine.commit if self.commit is None else self.commit
        folder = str(self.home / name)
        return Run(self.bootstrap, events, f"{name}-changes", name, folder, self.partitions, self.threads, commit)

    def forget(self, run: Run) -> None:
        topics.forget(self.bootstrap, run.name)
        shutil.rmtree(run.folder, ignore_errors=True)


@asynccontextmanager
async def running(engine: Engine, place: Place, run: Run) -> AsyncIterator[tuple[Process, Records]]:
    """The engine, and a reader of its records from their start on."""
    async with Records(place.bootstrap, run.changes, place.partitions) as records:
        process = engine.start(run)
        try:
            yield process, records
        finally:
            process.stop()


async def through(engine: Engine, place: Place, filled: Filled, name: str, patience: float) -> tuple[Figure, Changes]:
    """All of a topic, from nothing. RuntimeError where the engine does not get there within the patience (s)."""
    run = place.run(engine, name, filled.topic)
    begun = time.time()
    try:
        async with running(engine, place, run) as (process, records):
            with Sampler(process.popen.pid) as sampler:
                await records.until(filled.ends, process, START_SECONDS + patience)
                sampler.sample()
            await records.drain()
    finally:
        place.forget(run)
    found: Changes = defaultdict(list)
    for key, value in zip(records.seen.keys, records.seen.values, strict=True):
        found[key.decode()].append(json.loads(value))
    return figure_of(filled, records.seen, sampler, begun), found


def figure_of(filled: Filled, seen: Seen, sampler: Sampler, begun: float) -> Figure:
    """From the moment when the first records were appended to the one when a reader of committed records had the last.
    begun: of the process (wall clock, s).

    The events up to the first records do not count: an engine that holds its records back has done many by then. Where
    these are more than half, the start counts, and all events.
    """
    started = min(seen.appended[seen.first(user)] for user in filled.starts)
    ended = max(seen.arrived[seen.first(user)] for user in filled.ends)
    latest = dict.fromkeys(range(len(filled.times)), 0)  # event time in the first records, by partition of the events
    first = [i for i, appended in enumerate(seen.appended) if appended <= started + BURST]
    for i, where in zip(first, partitions_of([seen.keys[i] for i in first], len(latest)).tolist(), strict=True):
        latest[where] = max(latest[where], json.loads(seen.values[i])["at"])
    before = sum(filled.up_to(where, at) for where, at in latest.items())
    more = {"start_seconds": started - begun, "start_cpu_seconds": sampler.cpu_at(started), "records": len(seen.keys)}
    if 2 * before > filled.events:
        started, before, more["start_included"] = begun, 0, 1.0
    events, cpu = filled.events - before, sampler.cpu_at(ended) - sampler.cpu_at(started)
    return Figure(events, ended - started, cpu, sampler.peak_mib, more)


def check(
    engine: Engine, place: Place, filled: Filled, wanted: Changes, name: str, patience: float
) -> tuple[Figure, Comparison]:
    """The outputs of a topic against the oracle's."""
    figure, found = asyncio.run(through(engine, place, filled, name, patience))
    return figure, compare(wanted, found)


def speed(engine: Engine, place: Place, filled: Filled, name: str, patience: float) -> Figure:
    if isinstance(engine, Whole):
        run = place.run(engine, name, filled.topic)
        try:
            return engine.speed(run, filled.events, patience)
        finally:
            place.forget(run)
    figure, _ = asyncio.run(through(engine, place, filled, name, patience))
    return figure


# -- latency ------------------------------------------------------------------------------------------------------


def latency(engine: Engine, place: Place, name: str, rate: int, seconds: int, users: int) -> dict[str, Any]:
    """Seconds from an event's sending to the moment when a reader of committed records has what it gave, at a steady
    rate of events."""
    return asyncio.run(_latency(engine, place, name, rate, seconds, users))


async def _latency(engine: Engine, place: Place, name: str, rate: int, seconds: int, users: int) -> dict[str, Any]:
    topics.create(place.bootstrap, f"{name}-events", place.partitions)
    run = place.run(engine, name, f"{name}-events")
    settings = topics.settings_of(place.bootstrap, run.events, place.partitions)
    starts = users_of("start", place.partitions)
    live = traffic.encode(traffic.bursty(LIVE, users, end=0, seed=2))
    try:
        async with traffic.Sender(settings) as sender:
            await sender.send(topics.purchases(starts, int(time.time() * 1000)))
        async with running(engine, place, run) as (process, records):
            await records.until(starts, process, START_SECONDS)
            reading = asyncio.ensure_future(_read_on(records, process))
            begun = time.time()
            behind = await _send_live(place, run, live, rate, WARM_UP + seconds)
            await asyncio.sleep(max(LINGER, 2 * run.commit))
            reading.cancel()
    finally:
        place.forget(run)
    seen, delays = records.seen, []
    for value, arrived in zip(seen.values, seen.arrived, strict=True):
        at = json.loads(value)["at"] / 1000
        if at >= begun + WARM_UP:
            delays.append(arrived - at)
    if not delays:
        raise RuntimeError("no record came of the live traffic")
    p50, p99 = np.percentile(delays, [50, 99]).tolist()
    return {"rate": rate, "records": len(delays), "p50": p50, "p99": p99, "sent_late_ms": behind * 1000}


async def _read_on(records: Records, process: Process) -> None:
    while True:
        await records.poll(0.5)
        process.check()


async def _send_live(place: Place, run: Run, live: traffic.Records, rate: int, seconds: float) -> float:
    """Events in a circle, each with the moment of its sending; returns by how many seconds the last one was late."""
    producer = AIOKafkaProducer(bootstrap_servers=place.bootstrap, compression_type="lz4", linger_ms=0)
    await producer.start()
    place_of = partitions_of(live.keys, place.partitions).tolist()
    rest = [value.partition(b'"event_time":"')[2].partition(b'"')[2] for value in live.values]
    total, sent, started = int(rate * seconds), 0, time.monotonic()
    try:
        while sent < total:
            due = min(total, int((time.monotonic() - started) * rate))
            now = int(time.time() * 1000)
            text = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="milliseconds")[:23].encode()
            head = b'{"event_time":"%sZ"' % text
            batches: dict[int, Any] = {}
            for i in range(sent, due):
                i %= len(rest)
                where = place_of[i]
                batch = batches.get(where) or batches.setdefault(where, producer.create_batch())
                if batch.append(key=live.keys[i], value=head + rest[i], timestamp=now) is None:
                    await producer.send_batch(batch, run.events, partition=where)
                    batches[where] = batch = producer.create_batch()
                    batch.append(key=live.keys[i], value=head + rest[i], timestamp=now)
            for where, batch in batches.items():
                await producer.send_batch(batch, run.events, partition=where)
            sent = due
            await asyncio.sleep(SEND_TICK)
        return time.monotonic() - started - seconds
    finally:
        await producer.stop()


# -- recovery -----------------------------------------------------------------------------------------------------


def probes(partitions: int, rounds: int) -> dict[str, list[tuple[bytes, ...]]]:
    """Users of each partition whose state a start must bring back, for each start of each kind."""
    return {
        disk: [users_of(f"probe-{disk}-{number}", partitions) for number in range(rounds)]
        for disk in ("local", "empty")
    }


def recovery(engine: Engine, place: Place, filled: Filled, name: str, rounds: int, patience: float) -> dict[str, Any]:
    """Seconds from a start, after SIGKILL, to the moment when a reader has what events gave that were sent before the
    start, in every partition; on the local disk, and with an empty one where the state is in Kafka."""
    return asyncio.run(_recovery(engine, place, filled, name, rounds, patience))


async def _recovery(
    engine: Engine, place: Place, filled: Filled, name: str, rounds: int, patience: float
) -> dict[str, Any]:
    run = place.run(engine, name, filled.topic)
    settings = topics.settings_of(place.bootstrap, filled.topic, place.partitions)
    found: dict[str, list[float]] = {"local": [], "empty": []}
    starts: list[float] = []
    wanted = probes(place.partitions, rounds)
    disks = ("local", "empty") if engine.state_in_kafka else ("local",)
    try:
        async with Records(place.bootstrap, run.changes, place.partitions) as records:
            begun = time.time()
            process = engine.start(run)
            try:
                await records.until(filled.ends, process, START_SECONDS + patience)
                seen = records.seen
                starts.append(min(seen.appended[seen.first(user)] for user in filled.starts) - begun)
                for disk, number in _starts(disks, rounds):
                    users = wanted[disk][number]
                    await asyncio.sleep(engine.settle)
                    process.check()
                    process.stop(kill=True)
                    topics.remove_members(place.bootstrap, run.name)
                    if disk == "empty":
                        shutil.rmtree(run.folder)
                    looked = len(records.seen.keys)
                    async with traffic.Sender(settings) as sender:
                        await sender.send(topics.purchases(users, int(time.time() * 1000), price=150.0))
                    begun = time.time()
                    process = engine.start(run)
                    arrived = await _probed(records, process, users, looked, patience)
                    found[disk].append(arrived - begun)
            finally:
                process.stop()
    finally:
        place.forget(run)
    return {
        "start_seconds": starts[0],
        "seconds": {disk: figures for disk, figures in found.items() if figures},
        "median": {disk: statistics.median(figures) for disk, figures in found.items() if figures},
    }


def _starts(disks: Sequence[str], rounds: int) -> Iterator[tuple[str, int]]:
    for number in range(rounds):
        for disk in disks:
            yield disk, number


async def _probed(records: Records, process: Process, users: tuple[bytes, ...], looked: int, patience: float) -> float:
    """When the last of the probes' records was there; RuntimeError where one does not know what was before the kill."""
    left, arrived = set(users), 0.0
    deadline = time.monotonic() + START_SECONDS + patience
    while left:
        await records.poll(0.05)
        seen = records.seen
        for key, value, at in zip(seen.keys[looked:], seen.values[looked:], seen.arrived[looked:], strict=True):
            change = json.loads(value)
            if key not in left or change["spend_1h"] == 10_000:  # the latter: what was before the kill, once more
                continue
            if (change["events_1h"], change["spend_1h"]) != (2, 25_000):
                raise RuntimeError(f"the state did not survive: {change}")
            left.discard(key)
            arrived = at
        looked = len(seen.keys)
        process.check()
        if left and time.monotonic() > deadline:
            raise RuntimeError(f"not recovered within {patience:.0f} s; the end of its log:\n{process.tail(8)}")
    return arrived
