"""The worker: the tasks of the partitions that it owns, between Faust's calls and the clock's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from monitoring.metrics import Metrics
from online_models.version import Version
from state.stores.rocksdb import RowStore, block_cache
from streams.config.factories import rule_of, schema_of
from streams.config.settings import Settings
from streams.errors import RecoveryError, StateError
from streams.processing.output_buffer import Topics
from streams.processing.partition_processor import Task
from streams.runtime import heap
from streams.runtime.assignment import Assignment
from streams.runtime.fatal_errors import fail
from streams.runtime.partition import Partition
from streams.runtime.recovery import Recovery
from streams.schemas import flat_json
from streams.schemas.event_batch import EventBatch
from streams.schemas.record_batch import RecordBatch
from streams.services.learner import LearnerService
from streams.services.model_feed import Models
from streams.services.repartitioner import Rekeyer
from streams.transport import faust_app

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
        self.metrics = Metrics()
        self.models = Models(settings, self._adopt)
        self.learner = LearnerService(settings, self.metrics.count)
        self.rekeyers = [
            Rekeyer(settings, source, self.metrics.count, accept_rejects=accept_rejects, accept_loss=accept_loss)
            for source in settings.repartitioned
        ]
        self._rekeying: list[asyncio.Future[None]] = []
        self._cache = block_cache(settings.state.block_cache_mb)
        self._schemas = [schema_of(source, settings) for source in settings.sources]
        self._topics = Topics(
            settings.topic("segment_changes"),
            settings.topic("segments"),
            settings.topic("alerts"),
            settings.topic("dead_letters"),
            settings.topic("training_rows"),
            settings.topic("commands_results"),
        )
        self._assignment: Assignment | None = None  # the last one; it holds no partitions once it has ended
        self._not_reading_since: float | None = None  # monotonic seconds
        self._ended = False
        self._works: list[asyncio.Future[None]] = []
        self.on_start: Callable[[], Awaitable[None]] | None = None  # before the first assignment: the page
        self.app = faust_app.build(self)

    # -- ownership ----------------------------------------------------------------------------------------------

    @property
    def partitions(self) -> dict[int, Partition]:
        """The partitions of the present assignment, once they are open."""
        return self._assignment.partitions if self._assignment else {}

    @property
    def ready(self) -> bool:
        return self._assignment is not None and self._assignment.begun

    @property
    def recovery(self) -> Recovery | None:
        """The recovery of the present assignment."""
        return self._assignment.recovery if self._assignment else None

    def own(self, owned: set[int]) -> None:
        """A rebalance has assigned these partitions: all starts from RocksDB and the changelog, also where one stays.

        Returns at once and goes on beside the caller, for no heartbeat is sent while the group's callback runs.
        """
        if self._ended:
            return
        before = self._assignment
        self._assignment = Assignment(
            before.number + 1 if before else 1,
            frozenset(owned),
            self.settings,
            self.metrics,
            self._cache,
            make_task=self._task,
            read=self._read,
            last_recovery=before.recovery.last if before else 0.0,
            accept_loss=self._accept_loss,
        )
        self._assignment.start(before, self.guard)

    def _task(self, number: int, store: RowStore) -> Task:
        """The task of a partition over its recovered rows; ValueError where its progress cannot be read."""
        task = Task(
            rule_of(self.settings, number),
            self._decode,
            store,
            self._topics,
            commands=self.settings.topic("commands"),
            journal=self.settings.state.journal,
            accept_rejects=self._accept_rejects,
            reject_window=self.settings.rejects.window,
            reject_share=self.settings.rejects.share,
        )
        for version in sorted(self.models.versions.values(), key=lambda v: v.number):
            task.adopt(version)
        return task

    async def _read(self, assignment: int, positions: Mapping[tuple[str, int], int]) -> None:
        await self.app.consumer.read(assignment, positions)

    async def rest(self) -> None:
        """Before a rebalance takes the partitions: flush what was applied, and let them go."""
        if self._assignment is not None:
            await self.guard(self._assignment.rest())

    async def release(self) -> None:
        """Close what is owned, of which nothing is flushed; the worker takes no assignment any more."""
        self._ended = True
        if self._assignment is not None:
            await self.guard(self._assignment.close())

    def waiting(self) -> str | None:
        """What stands between this worker and its work; None when it is ready."""
        if not self.ready:
            return f"recovering: {self.recovery.where()}" if self.recovery else "no assignment yet"
        wanted = {number: part.task.needs() for number, part in self.partitions.items() if part.task is not None}
        if missing := {number: version for number, version in wanted.items() if version}:
            return "waiting for model version " + ", ".join(f"{v} (partition {n})" for n, v in missing.items())
        return None

    def _decode(self, batch: RecordBatch, source: int, key_before: int, now: int | None) -> EventBatch:
        return flat_json.decode(batch, self._schemas[source], source=source, key_before=key_before, now=now)

    def _adopt(self, version: Version) -> None:
        for part in self.partitions.values():
            if part.task is not None:
                part.task.adopt(version)

    # -- the turn -----------------------------------------------------------------------------------------------

    async def take(self, assignment: int, batch: RecordBatch) -> None:
        """A fetch of a source, read for the assignment of that number; after a hole, what lies in it is read."""
        if not self.ready or self._assignment is None or self._assignment.number != assignment:
            return
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
        if self._assignment is not None:
            await self.guard(self._assignment.flush())

    async def _tick(self) -> None:
        interval, told = self.settings.state.flush_interval, time.monotonic()
        while True:
            await asyncio.sleep(interval)
            for part in list(self.partitions.values()):
                self._turn(part)
                await asyncio.sleep(0)
            self._check_models()
            self._check_reading()
            await self._in_turn(Task.sweep, time.monotonic() + SWEEP_SHARE * interval)
            await self._in_turn(Task.pass_on, time.monotonic() + PASS_SHARE * interval)
            await self.flush()
            self.metrics.count({f"seek:{topic}": seeks for topic, seeks in self.app.consumer.seeks.items()})
            self.app.consumer.seeks.clear()
            if time.monotonic() - told > HOUSEKEEPING:
                told = time.monotonic()
                if self.ready:
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

    def _check_reading(self) -> None:
        """RecoveryError where Faust does not go on with fetches after a rebalance: nothing else would tell."""
        if not self.ready or self.app.consumer.flow_active:
            self._not_reading_since = None
        elif self._not_reading_since is None:
            self._not_reading_since = time.monotonic()
        elif time.monotonic() - self._not_reading_since > self.settings.state.recovery_deadline:
            raise RecoveryError("the partitions are recovered, but the sources are not read: the group has not resumed")

    async def _in_turn(self, work: Callable[[Task, int], int], until: float) -> None:
        """Go on with the partitions' sweeps or passes, in turn, for a bounded time."""
        while time.monotonic() < until:
            looked = [work(part.task, TURN_ROWS) for part in self.partitions.values() if part.task is not None]
            if not any(looked):
                break
            await asyncio.sleep(0)

    async def work(self) -> None:
        """What goes on beside the batches, from the first assignment on."""
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
