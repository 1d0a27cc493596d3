"""The partitions that a worker owns between two rebalances: it opens, recovers, runs and closes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing

from rocksdict import Cache

from monitoring.metrics import Metrics
from state.stores.rocksdb import RowStore
from streams.config.settings import Settings
from streams.errors import RecoveryError, StateError
from streams.kafka import changelog
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import Serial
from streams.runtime.log_bounds import LogBounds, read_log_bounds
from streams.runtime.partition import Partition
from streams.runtime.publisher import Publisher
from streams.runtime.recovery import Recovery
from streams.runtime.start_checks import check_start
from streams.runtime.store_opening import open_store

MakeTask = Callable[[int, RowStore], PartitionProcessor]
StartReading = Callable[[int, Mapping[tuple[str, int], int]], Awaitable[None]]
ExitOnError = Callable[[Awaitable[None]], Awaitable[None]]
CANCEL_INTERVAL = 1.0  # seconds between two attempts to cancel


class Assignment:
    """The partitions that one generation of the workers' group assigned to this worker.

    Every rebalance makes a new assignment, even for partitions that stay. Everything that is done for an assignment is
    done by its own coroutine (`run`) and by calls on the object. So nothing of an earlier generation can affect a later
    one: once an assignment is closed, its coroutine has ended and it holds no partitions.
    """

    def __init__(
        self,
        number: int,
        owned: frozenset[int],
        settings: Settings,
        metrics: Metrics,
        block_cache: Cache,
        *,
        make_task: MakeTask,
        start_reading: StartReading,
        last_recovery: float = 0.0,
        accept_loss: bool = False,
    ) -> None:
        """number: counts the worker's assignments. make_task: makes the task of a partition over its recovered store.
        start_reading: starts reading the sources for the assignment of that number, from the given offsets on.
        last_recovery: seconds that the recovery before took."""
        self.number, self.owned = number, owned
        self.partitions: dict[int, Partition] = {}
        self.recovery = Recovery(settings.changelog, settings.state.recovery_deadline, last_recovery)
        self.ready = False
        self._settings, self._metrics, self._block_cache = settings, metrics, block_cache
        self._make_task, self._start_reading, self._accept_loss = make_task, start_reading, accept_loss
        self._ended = False  # whether flush_and_close() or close() has been called
        self._previous: Assignment | None = None  # None once it is closed
        self._run_future: asyncio.Future[None] | None = None
        self._close_future: asyncio.Future[None] | None = None

    def start(self, previous: Assignment | None, exit_on_error: ExitOnError) -> None:
        """Run concurrently with the caller. previous: the assignment before this one, which is closed first."""
        self._previous = previous
        self.recovery.start()
        self._run_future = asyncio.ensure_future(exit_on_error(self.run()))

    async def run(self) -> None:
        """Fence off former owners, open the stores, apply what the changelog has beyond them, start the tasks."""
        await self._close_previous()
        if self.owned:
            bounds = await self._open()
            await self._recover(bounds)
        if self._ended:  # this coroutine was cancelled, but a Kafka client suppressed the cancellation
            return
        self.recovery.complete()
        self.ready = True
        positions = {
            (topic, number): offset
            for number, partition in self.partitions.items()
            if partition.task is not None
            for topic, offset in partition.task.queued_ends().items()
        }
        await self._start_reading(self.number, positions)

    async def _open(self) -> LogBounds:
        """Start the producers and open the stores.

        The producers come first: their start aborts transactions that a former owner left open. The ends that are read
        afterwards are therefore final.
        """
        publishers = {number: Publisher(self._settings, number) for number in sorted(self.owned)}
        try:
            await asyncio.gather(*(publisher.start() for publisher in publishers.values()))
            bounds = await asyncio.to_thread(read_log_bounds, self._settings, sorted(self.owned))
            cache_rows = max(1000, self._settings.state.cache_rows // len(self.owned))
            for number, publisher in publishers.items():
                store = open_store(
                    self._settings,
                    number,
                    bounds,
                    cache_rows=cache_rows,
                    block_cache=self._block_cache,
                    accept_loss=self._accept_loss,
                    now=int(time.time() * 1000),
                )
                self.recovery.add_partition(number, store.offset() or 0, bounds.ends[self._settings.changelog, number])
                self.partitions[number] = Partition(number, store, publisher, self._metrics)
                await asyncio.sleep(0)  # the next store takes some 50 ms to open
        finally:
            # A partition closes its own publisher. On an error those without a partition are stopped here.
            unused = [publisher for number, publisher in publishers.items() if number not in self.partitions]
            await asyncio.gather(*(publisher.stop() for publisher in unused), return_exceptions=True)
        return bounds

    async def _recover(self, bounds: LogBounds) -> None:
        """Apply the changelog up to the ends in `bounds`, complete the expiry indexes, then make the tasks.

        Before the tasks, a second read of the changelog's end looks up the newest progress: a task starts from that
        progress or not at all, and its publisher commits nothing but what follows it.
        """
        positions = {
            number: partition.store.offset() or 0
            for number, partition in self.partitions.items()
            if self.recovery.remaining_of(number)
        }
        if positions:
            await self._apply_changelog(positions)
        for number, partition in self.partitions.items():
            if self.recovery.remaining_of(number):
                raise RecoveryError(f"partition {number}: its recovery ended early: {self.recovery.describe()}")
            await self._complete_index(partition)
        newest = await changelog.newest_serials(self._settings, sorted(self.owned))
        # No task starts before the checks of all have passed. Nothing else runs between the first task and their start:
        # a model version that was read meanwhile would not reach them.
        tasks = {number: self._checked_task(number, bounds, newest.get(number)) for number in self.partitions}
        for number, task in tasks.items():
            self.partitions[number].start(task)

    async def _apply_changelog(self, positions: Mapping[int, int]) -> None:
        """positions: by partition, the changelog offset to read from."""
        async with changelog.batches(self._settings, positions) as batches:
            async for batch in batches:
                partition = self.partitions[batch.partition]
                if partition.recover(batch, accept_loss=self._accept_loss):
                    self.recovery.advance(batch.partition, batch.last + 1)
                if not self.recovery.remaining:
                    break
                await asyncio.sleep(0)

    async def _complete_index(self, partition: Partition) -> None:
        """Build a partition's expiry index where the store has none, some rows at a time: heartbeats, the status page
        and a rebalance that ends this assignment go on in between."""
        with closing(partition.store.build_index()) as turns:
            for users in turns:
                self.recovery.indexing = partition.number, users
                await asyncio.sleep(0)
        self.recovery.indexing = None

    def _checked_task(self, number: int, bounds: LogBounds, newest: Serial | None) -> PartitionProcessor:
        """The task of a recovered partition. newest: serial of the newest progress in the changelog.

        RecoveryError where the recovered progress is another one, StateError where it cannot be read, LossError where
        a loss was not accepted.
        """
        partition, name = self.partitions[number], f"{self._settings.changelog}/{number}"
        try:
            task = self._make_task(number, partition.store)
        except ValueError as error:
            raise StateError(f"partition {number}: {error}") from error
        if newest is not None and task.progress.serial != newest:
            raise RecoveryError(
                f"partition {number}: the newest progress in {name} is {newest}, the recovered one is "
                f"{task.progress.serial}: the partition was not started"
            )
        start, end = (offsets[self._settings.changelog, number] for offsets in (bounds.starts, bounds.ends))
        check_start(
            task,
            number,
            bounds,
            accept_loss=self._accept_loss,
            had_rows=bool(partition.store.scan(None, 1)),
            searched=f"{name} was read from {start} to {end}",
        )
        partition.store.note_complete(int(time.time() * 1000))
        return task

    async def flush(self, *, last: bool = False) -> None:
        """Flush all partitions that have started. last: no flush follows."""
        await asyncio.gather(*(partition.flush(last=last) for partition in list(self.partitions.values())))

    async def flush_and_close(self) -> None:
        """Flush what was applied. Returns after the flush; the rest of `close` runs concurrently with the caller."""
        self._ended, self.ready = True, False
        await self.flush(last=True)
        if self._close_future is None:
            self._close_future = asyncio.ensure_future(self._close())

    async def close(self) -> None:
        """End the coroutine and close what it opened, without a flush."""
        if self._close_future is None:
            self._close_future = asyncio.ensure_future(self._close())
        await asyncio.shield(self._close_future)

    async def _close(self) -> None:
        self._ended, self.ready = True, False
        self.recovery.stop()
        while self._run_future is not None and not self._run_future.done():
            self._run_future.cancel()  # repeated, because a Kafka client may suppress a cancellation
            await asyncio.wait([self._run_future], timeout=CANCEL_INTERVAL)
        await self._close_previous()
        partitions, self.partitions = list(self.partitions.values()), {}
        for partition in partitions:
            await partition.close()

    async def _close_previous(self) -> None:
        """Close the assignment before this one, and so all before it. Two stores cannot have one folder open."""
        if self._previous is not None:
            await self._previous.close()
            self._previous = None
