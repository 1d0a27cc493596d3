"""The worker: owns partitions, runs their tasks on fetches and timers, and ends the process on a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from monitoring.metrics import Metrics
from online_models.version import Version
from state.stores.database import block_cache
from state.stores.rocksdb import RowStore
from streams.config.factories import partition_config, schema_of
from streams.config.settings import Settings
from streams.errors import RecoveryError, StateError
from streams.processing.alerts.registry import NAMES
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_processor import PartitionProcessor
from streams.runtime import heap
from streams.runtime.assignment import Assignment
from streams.runtime.fatal_errors import exit_with_error
from streams.runtime.partition import Partition
from streams.runtime.recovery import Recovery
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import decoder
from streams.services.learner import LearnerService
from streams.services.model_feed import ModelFeed
from streams.services.repartitioner import RepartitionService
from streams.transport import faust_app

USERS_PER_TURN = 500  # of a sweep, or of the pass after a swap: takes a few milliseconds, then batches may run
# Shares of the flush interval. Together they are 1: a worker that has all three to do flushes half as often.
COMMAND_SHARE = 0.5  # that commands may take, beside those that each run of a task carries out
SWEEP_SHARE = 0.3  # that sweeps may take; a user's next event decides what a sweep left out
PASS_SHARE = 0.2  # that passes after a swap may take
# Each batch that runs between two steps of a flush delays the flush. After this many seconds it has the event loop to
# itself, and fetched batches are queued.
LONG_FLUSH_SECONDS = 1.0
MODEL_WAIT_SECONDS = 60.0  # for a version that a progress names to be read from `models`
HOUSEKEEPING_SECONDS = 5.0  # between two commits of the group's offsets, which show the lag, and two trims of the heap


class Worker:
    """One process of a deployment: it processes a share of the partitions."""

    def __init__(self, settings: Settings, *, accept_rejects: bool = False, accept_loss: bool = False) -> None:
        self.settings = settings
        self._accept_rejects, self._accept_loss = accept_rejects, accept_loss
        self.metrics = Metrics(alert_rules=NAMES)
        self.models = ModelFeed(settings, self._adopt_version)
        self.learner = LearnerService(settings, self.metrics.count)
        self.repartition_services = [
            RepartitionService(
                settings, source, self.metrics.count, accept_rejects=accept_rejects, accept_loss=accept_loss
            )
            for source in settings.repartitioned
        ]
        self._block_cache = block_cache(settings.state.block_cache_mb)
        self._decode = decoder([schema_of(source, settings) for source in settings.sources])
        self._topics = Topics(
            settings.topic("segment_changes"),
            settings.topic("segments"),
            settings.topic("alerts"),
            settings.topic("dead_letters"),
            settings.topic("training_rows"),
            settings.topic("commands_results"),
        )
        self._assignment: Assignment | None = None  # the latest; without partitions once it is closed
        self._last_turn = -1  # partition that had the last turn of commands, a sweep or a pass
        self._reading_paused_since: float | None = None  # monotonic seconds
        self._closed = False
        # asyncio keeps no strong references to its tasks, so these lists do
        self._background_tasks: list[asyncio.Future[None]] = []
        self._repartition_tasks: list[asyncio.Future[None]] = []
        self.on_start: Callable[[], Awaitable[None]] | None = None  # awaited before the first assignment
        self.app = faust_app.build(self)

    # -- assignments --------------------------------------------------------------------------------------------

    @property
    def partitions(self) -> dict[int, Partition]:
        """The partitions of the current assignment whose stores are open."""
        return self._assignment.partitions if self._assignment else {}

    @property
    def ready(self) -> bool:
        return self._assignment is not None and self._assignment.ready

    @property
    def recovery(self) -> Recovery | None:
        """The recovery of the current assignment."""
        return self._assignment.recovery if self._assignment else None

    def assign(self, partitions: set[int]) -> None:
        """Start a new assignment after a rebalance. Partitions that stay are recovered too.

        Returns at once and recovers concurrently with the caller: the group sends no heartbeats while its callback
        runs.
        """
        if self._closed:
            return
        previous = self._assignment
        self._assignment = Assignment(
            previous.number + 1 if previous else 1,
            frozenset(partitions),
            self.settings,
            self.metrics,
            self._block_cache,
            make_task=self._make_task,
            start_reading=self._start_reading,
            last_recovery=previous.recovery.last_seconds if previous else 0.0,
            accept_loss=self._accept_loss,
        )
        self._assignment.start(previous, self.exit_on_error)

    def _make_task(self, number: int, store: RowStore) -> PartitionProcessor:
        """The task of a partition over its recovered rows. ValueError where its progress cannot be read."""
        task = PartitionProcessor(
            partition_config(self.settings, number),
            self._decode,
            store,
            self._topics,
            commands=self.settings.topic("commands"),
            journal=self.settings.state.journal,
            accept_rejects=self._accept_rejects,
            reject_window=self.settings.rejects.window,
            reject_share=self.settings.rejects.share,
        )
        for version in sorted(self.models.versions.values(), key=lambda version: version.number):
            task.adopt(version)
        return task

    async def _start_reading(self, assignment: int, positions: Mapping[tuple[str, int], int]) -> None:
        await self.app.consumer.start_reading(assignment, positions)

    async def revoke(self) -> None:
        """Flush what was applied, before a rebalance takes the partitions away, and close them."""
        if self._assignment is not None:
            await self.exit_on_error(self._assignment.flush_and_close())

    async def close(self) -> None:
        """Close the partitions without a flush. The worker ignores later assignments."""
        self._closed = True
        if self._assignment is not None:
            await self.exit_on_error(self._assignment.close())

    def not_ready_reason(self) -> str | None:
        """Why the worker does not process records; None when it does."""
        if not self.ready:
            return f"recovering: {self.recovery.describe()}" if self.recovery else "no assignment yet"
        needed = {
            number: partition.task.missing_version()
            for number, partition in self.partitions.items()
            if partition.task is not None
        }
        missing = [f"{version} (partition {number})" for number, version in needed.items() if version]
        if missing:
            return "waiting for model version " + ", ".join(missing)
        return None

    def _adopt_version(self, version: Version) -> None:
        for partition in self.partitions.values():
            if partition.task is not None:
                partition.task.adopt(version)

    # -- fetches ------------------------------------------------------------------------------------------------

    async def process_fetch(self, assignment: int, batch: RecordBatch) -> None:
        """Process a fetch of a source that was read for the assignment of that number.

        A fetch of an earlier assignment is ignored. Where the fetch does not continue the one before, the source is
        read again from the gap on.
        """
        if not self.ready or self._assignment is None or self._assignment.number != assignment:
            return
        partition = self.partitions.get(batch.partition)
        if partition is None or partition.task is None:
            return
        expected = partition.task.queued_ends()[batch.topic]
        if partition.task.add(batch):
            self.metrics.count({"batches": 1})
            self._run_task(partition)
        elif batch.last >= expected:  # otherwise the task has all of its records already
            await self.app.consumer.read_again(batch.topic, batch.partition, found=batch.first, expected=expected)

    def _run_task(self, partition: Partition) -> None:
        """Apply what may be applied now, then pause the sources of which the task has enough queued."""
        if partition.task is None:
            return
        consumer, number = self.app.consumer, partition.number
        if not self._flush_takes_long():
            # While a repartition service is behind, its topic will get records: its end must not count as reached.
            growing = {service.topic for service in self.repartition_services if service.behind}
            sources = partition.task.config.sources
            ends = {topic: None if topic in growing else consumer.end_offset(topic, number) for topic in sources}
            partition.task.run(int(time.time() * 1000), ends)
        paused = {(topic, number) for topic in partition.task.full_topics()}
        consumer.paused = {source for source in consumer.paused if source[1] != number} | paused

    def _flush_takes_long(self) -> bool:
        limit = time.monotonic() - LONG_FLUSH_SECONDS
        flushes = [partition.flushing_since for partition in self.partitions.values()]
        return any(since is not None and since < limit for since in flushes)

    async def flush(self) -> None:
        """Flush all partitions; a failure ends the process."""
        if self._assignment is not None:
            await self.exit_on_error(self._assignment.flush())

    # -- timers -------------------------------------------------------------------------------------------------

    async def _run_timers(self) -> None:
        """Run tasks, commands, sweeps, passes and flushes every state.flush_interval, until cancelled."""
        interval, last_housekeeping = self.settings.state.flush_interval, time.monotonic()
        while True:
            await asyncio.sleep(interval)
            for number in list(self.partitions):
                if (partition := self.partitions.get(number)) is not None:  # a rebalance may have taken it away
                    self._run_task(partition)
                    await asyncio.sleep(0)
            self._check_models()
            self._check_reading()
            await self._run_in_turns(
                lambda task: task.carry_out_commands(int(time.time() * 1000)), COMMAND_SHARE * interval
            )
            await self._run_in_turns(lambda task: task.sweep(USERS_PER_TURN), SWEEP_SHARE * interval)
            await self._run_in_turns(lambda task: task.continue_pass(USERS_PER_TURN), PASS_SHARE * interval)
            await self.flush()
            self._count_seeks()
            if time.monotonic() - last_housekeeping > HOUSEKEEPING_SECONDS:
                last_housekeeping = time.monotonic()
                await self._run_housekeeping()

    def _check_models(self) -> None:
        """StateError where a partition waits too long for a version, so `models` does not have it."""
        for number, partition in self.partitions.items():
            needed = partition.task.missing_version() if partition.task else 0
            if not needed or needed in self.models.versions:
                partition.model_wait_since = None
            elif partition.model_wait_since is None:
                partition.model_wait_since = time.monotonic()
            elif time.monotonic() - partition.model_wait_since > MODEL_WAIT_SECONDS:
                raise StateError(
                    f"partition {number} needs model version {needed}, which {self.settings.topic('models')} does not "
                    "hold"
                )

    def _check_reading(self) -> None:
        """RecoveryError where Faust does not resume fetching after a rebalance; nothing else would detect that."""
        if not self.ready or self.app.consumer.flow_active:
            self._reading_paused_since = None
        elif self._reading_paused_since is None:
            self._reading_paused_since = time.monotonic()
        elif time.monotonic() - self._reading_paused_since > self.settings.state.recovery_deadline:
            raise RecoveryError("the partitions are recovered, but the sources are not read: the group has not resumed")

    async def _run_in_turns(self, work: Callable[[PartitionProcessor], int], seconds: float) -> None:
        """Run commands, a sweep or a pass, a turn of each partition after the other, until none has more to do or so
        many seconds have passed. work: a turn of a task; 0 where it had nothing to do.

        Control goes back to the event loop after each turn, so that batches are not delayed. A call continues after the
        partition that had the last turn: with many partitions not each of them gets one in every call.
        """
        until, worked = time.monotonic() + seconds, True
        while worked:
            worked = False
            for number in sorted(self.partitions, key=lambda number: (number <= self._last_turn, number)):
                if time.monotonic() >= until:
                    return
                partition = self.partitions.get(number)  # a rebalance may have taken it away since the last turn
                if partition is not None and partition.task is not None and work(partition.task):
                    self._last_turn, worked = number, True
                    await asyncio.sleep(0)

    def _count_seeks(self) -> None:
        self.metrics.count({f"seek:{topic}": seeks for topic, seeks in self.app.consumer.seek_counts.items()})
        self.app.consumer.seek_counts.clear()

    async def _run_housekeeping(self) -> None:
        """Commit the group's offsets, look for sources that are not read, and trim the heap."""
        if self.ready:
            offsets = {
                (topic, partition.number): offset
                for partition in self.partitions.values()
                for topic, offset in partition.flushed_offsets.items()
            }
            await self.app.consumer.commit_offsets(offsets)
            await self.app.consumer.check_positions()
        await asyncio.to_thread(heap.trim)

    # -- background tasks ---------------------------------------------------------------------------------------

    def start_background_tasks(self) -> None:
        """Start what runs concurrently with the batches. Faust calls this once, after the first assignment."""
        for coroutine in (self.models.run(), self.learner.run(), self._run_timers()):
            self._background_tasks.append(asyncio.ensure_future(self.exit_on_error(coroutine)))
        for service in self.repartition_services:
            self._background_tasks.append(asyncio.ensure_future(self.exit_on_error(service.watch_lag())))
            self._repartition_tasks.append(asyncio.ensure_future(self.exit_on_error(service.run())))

    async def stop_repartitioning(self) -> None:
        """Leave the repartition groups before the process ends, so that another worker takes over at once instead of
        after the session timeout."""
        for task in self._repartition_tasks:
            task.cancel()
        await asyncio.gather(*self._repartition_tasks, return_exceptions=True)

    async def exit_on_error(self, work: Awaitable[Any]) -> None:
        """Await; end the process if that fails, because Faust cannot give back a single partition."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            exit_with_error(error)
