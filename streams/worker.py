"""The worker: the tasks of the partitions that it owns, between Faust's calls and the clock's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from monitoring.metrics import Metrics
from online_models.version import Version
from state.stores.rocksdb import block_cache
from streams import faust_app, heap
from streams.crash import fail
from streams.disk import open_store
from streams.errors import StateError
from streams.learner import LearnerService
from streams.models import Models
from streams.outbox import Topics
from streams.partition import Partition
from streams.publisher import Publisher
from streams.records import RecordBatch
from streams.recovery import Recovery
from streams.rekeyer import Rekeyer
from streams.rules import rule_of, schema_of
from streams.settings import Settings
from streams.standing import Standing, look
from streams.start import check_start
from streams.task import Task
from streams.wire import shoal
from streams.wire.events import EventBatch

TURN_ROWS = 500  # users a turn of a sweep or of the pass after a swap: a few milliseconds between two batches
PASS_SHARE = 0.2  # of the time between two flushes that the pass may take
SWEEP_SHARE = 0.3  # and that the sweep may take: what it does not get to, the users' next events do
FLUSH_ALONE = 1.0  # seconds after which a flush has the loop to itself, for each batch between two of its steps delays
# it; what is fetched meanwhile is queued
MODELS_WAIT = 60.0  # seconds for a version that a progress names to come from `models`
HOUSEKEEPING = 5.0  # seconds between two commits of the group's offsets, for whoever watches lag, and trims of the heap


class Worker:
    """One process's share of the partitions."""

    def __init__(self, settings: Settings, *, accept_rejects: bool = False, accept_loss: bool = False) -> None:
        self.settings = settings
        self._accept_rejects, self._accept_loss = accept_rejects, accept_loss
        self.partitions: dict[int, Partition] = {}
        self.ready = False
        self.metrics = Metrics()
        self.models = Models(settings, self._adopt)
        self.learner = LearnerService(settings, self.metrics.count)
        self.rekeyers = [
            Rekeyer(settings, source, self.metrics.count, accept_rejects=accept_rejects, accept_loss=accept_loss)
            for source in settings.rekeyed
        ]
        self._rekeying: list[asyncio.Future[None]] = []
        self._cache = block_cache(settings.state.block_cache_mb)
        self._schemas = [schema_of(source, settings) for source in settings.sources]
        self._topics = Topics(
            settings.topic("segment_changes"), settings.topic("segments"), settings.topic("alerts"),
            settings.topic("dead_letters"), settings.topic("training_rows"), settings.topic("commands_results"),
        )  # fmt: skip
        self.recovery = Recovery(settings.changelog, settings.state.recovery_deadline)
        self.standing: Standing
        self._resting = False  # between a revoke and the next assignment
        self._taking = False  # while an assignment is taken
        self._works: list[asyncio.Future[None]] = []
        self.on_start: Callable[[], Awaitable[None]] | None = None  # before the first assignment: the page
        self.app = faust_app.build(self)

    # -- ownership ----------------------------------------------------------------------------------------------

    async def own(self, owned: set[int]) -> None:
        """After an assignment: all starts from RocksDB and the changelog, also where a partition stays.

        Starting the producers here, before recovery measures the changelog, aborts what a dead owner left open.
        """
        await self.guard(self._own(owned))

    async def _own(self, owned: set[int]) -> None:
        self.ready, self._resting, self._taking = False, False, True
        self.recovery.end()
        self.recovery = Recovery(self.settings.changelog, self.settings.state.recovery_deadline, self.recovery.last)
        self.recovery.start()
        await self.release()
        if owned:
            await self._open(owned)
        self._taking = False

    async def _open(self, owned: set[int]) -> None:
        publishers = {number: Publisher(self.settings, number) for number in sorted(owned)}
        await asyncio.gather(*(publisher.start() for publisher in publishers.values()))
        self.standing = standing = await asyncio.to_thread(look, self.settings, sorted(owned))
        cache_rows = max(1000, self.settings.state.cache_rows // len(owned))
        for number, publisher in publishers.items():
            store = open_store(
                self.settings, number, standing, cache_rows=cache_rows, block_cache=self._cache,
                accept_loss=self._accept_loss, now=int(time.time() * 1000),
            )  # fmt: skip
            self.recovery.measure(number, store.offset() or 0, standing.ends[self.settings.changelog, number])
            self.partitions[number] = Partition(number, store, publisher, self.metrics)

    def recover(self, batch: RecordBatch) -> None:
        """Changelog records, in recovery."""
        part = self.partitions.get(batch.partition)
        if part is not None and part.recover(batch, accept_loss=self._accept_loss):
            self.recovery.advance(batch.partition, batch.last + 1)

    async def rest(self) -> None:
        """Before partitions go: flush, and begin nothing more; every assignment starts anew, also where one stays."""
        self._resting = True
        await self.flush()
        self.ready = False
        for part in self.partitions.values():
            part.task = None

    async def release(self) -> None:
        """Close what is owned; nothing of it is flushed."""
        parts = list(self.partitions.values())
        self.partitions = {}
        for part in parts:
            await part.close()

    async def begin(self) -> None:
        """Recovery is over: tasks start from their progress."""
        await self.guard(self._begin())

    async def _begin(self) -> None:
        # assigned anew soon, or now: Faust may tell the end of an earlier recovery; that assignment's own begins them
        if self._resting or self._taking:
            return
        for number, part in self.partitions.items():
            part.store.build_index()
            try:
                task = Task(
                    rule_of(self.settings, number), self._decode, part.store, self._topics,
                    commands=self.settings.topic("commands"), journal=self.settings.state.journal,
                    accept_rejects=self._accept_rejects, reject_window=self.settings.rejects.window,
                    reject_share=self.settings.rejects.share,
                )  # fmt: skip
            except ValueError as error:
                raise StateError(f"partition {number}: {error}") from error
            check_start(
                task, number, self.standing, accept_loss=self._accept_loss, had_rows=bool(part.store.scan(None, 1))
            )
            part.store.note_complete(int(time.time() * 1000))
            for version in sorted(self.models.versions.values(), key=lambda v: v.number):
                task.adopt(version)
            part.task = task
        self.recovery.ready()
        self.ready = True

    def waiting(self) -> str | None:
        """What stands between this worker and its work; None when it is ready."""
        if not self.ready:
            return f"recovering: {self.recovery.where()}" if self.recovery.begun else "no assignment yet"
        wanted = {number: part.task.needs() for number, part in self.partitions.items() if part.task is not None}
        if missing := {number: version for number, version in wanted.items() if version}:
            return "waiting for model version " + ", ".join(f"{v} (partition {n})" for n, v in missing.items())
        return None

    def resume_at(self) -> dict[tuple[str, int], int]:
        """Where each source is to be read from. Faust asks more than once, and tasks may have records by then."""
        return {
            (topic, number): offset
            for number, part in self.partitions.items()
            if part.task is not None
            for topic, offset in part.task.queued_ends().items()
        }

    def _decode(self, batch: RecordBatch, source: int, key_before: int, now: int | None) -> EventBatch:
        return shoal.decode(batch, self._schemas[source], source=source, key_before=key_before, now=now)

    def _adopt(self, version: Version) -> None:
        for part in self.partitions.values():
            if part.task is not None:
                part.task.adopt(version)

    # -- the turn -----------------------------------------------------------------------------------------------

    async def take(self, batch: RecordBatch) -> None:
        """A fetch of a source: contiguous, or a leftover of an earlier assignment, or after a hole, which is read."""
        part = self.partitions.get(batch.partition)
        if part is None or part.task is None:
            return
        end = part.task.queued_ends()[batch.topic]
        if part.task.offer(batch):
            self.metrics.count({"batches": 1})
            self._turn(part)
        elif batch.last >= end:
            await self.app.consumer.read_again(batch.topic, batch.partition, found=batch.first, expected=end)

    def _turn(self, part: Partition) -> None:
        if part.task is None:
            return
        ends, number = self.app.consumer.ends(), part.number
        # a source whose re-keyer is behind is not at its end, whatever its topic holds
        ends |= {(rekeyer.topic, number): None for rekeyer in self.rekeyers if rekeyer.behind}
        late = time.monotonic() - FLUSH_ALONE
        if not any(one.flushing_since is not None and one.flushing_since < late for one in self.partitions.values()):
            sources = part.task.rule.sources
            part.task.run(int(time.time() * 1000), {topic: ends.get((topic, number)) for topic in sources})
        held = {(topic, number) for topic in part.task.held()}
        self.app.consumer.held = {at for at in self.app.consumer.held if at[1] != number} | held

    async def flush(self) -> None:
        """Flush all partitions; a failure ends the process."""
        await self.guard(asyncio.gather(*(part.flush() for part in list(self.partitions.values()))))

    async def _tick(self) -> None:
        interval, told = self.settings.state.flush_interval, time.monotonic()
        while True:
            await asyncio.sleep(interval)
            for part in list(self.partitions.values()):
                self._turn(part)
                await asyncio.sleep(0)
            self._check_models()
            await self._in_turn(Task.sweep, time.monotonic() + SWEEP_SHARE * interval)
            await self._in_turn(Task.pass_on, time.monotonic() + PASS_SHARE * interval)
            await self.flush()
            self.metrics.count({f"seek:{topic}": seeks for topic, seeks in self.app.consumer.seeks.items()})
            self.app.consumer.seeks.clear()
            if time.monotonic() - told > HOUSEKEEPING:
                told = time.monotonic()
                acked = {(t, part.number): o for part in self.partitions.values() for t, o in part.acked.items()}
                await self.app.consumer.commit_positions(acked)
                await self.app.consumer.look()
                await asyncio.to_thread(heap.trim)

    def _check_models(self) -> None:
        """StateError where a partition waits for a version that is not in `models`."""
        for number, part in self.partitions.items():
            wanted = part.task.needs() if part.task else 0
            if not wanted or wanted in self.models.versions:
                part.waits_since = None
            elif part.waits_since is None:
                part.waits_since = time.monotonic()
            elif time.monotonic() - part.waits_since > MODELS_WAIT:
                raise StateError(
                    f"partition {number} stands at model version {wanted}, which {self.settings.topic('models')} does "
                    "not hold"
                )

    async def _in_turn(self, work: Callable[[Task, int], int], until: float) -> None:
        """Go on with the partitions' sweeps or passes, in turn, for a bounded time."""
        while time.monotonic() < until:
            looked = [work(part.task, TURN_ROWS) for part in self.partitions.values() if part.task is not None]
            if not any(looked):
                break
            await asyncio.sleep(0)

    async def work(self) -> None:
        """What goes on beside the batches, from the first recovery on."""
        for coroutine in (self.models.run(), self.learner.run(), self._tick()):
            self._works.append(asyncio.ensure_future(self.guard(coroutine)))
        for rekeyer in self.rekeyers:
            self._works.append(asyncio.ensure_future(self.guard(rekeyer.watch())))
            self._rekeying.append(asyncio.ensure_future(self.guard(rekeyer.run())))

    async def hand_over(self) -> None:
        """Before the end: whoever stands by re-keys at once, and not when the session is over."""
        for one in self._rekeying:
            one.cancel()
        await asyncio.gather(*self._rekeying, return_exceptions=True)

    async def guard(self, work: Awaitable[Any]) -> None:
        """A failure here ends the process: Faust cannot give back a single partition."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            fail(error)
