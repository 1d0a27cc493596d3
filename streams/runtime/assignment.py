"""What a worker owns between two rebalances: opened, recovered, begun, and let go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from rocksdict import Cache

from monitoring.metrics import Metrics
from state.stores.rocksdb import RowStore
from streams.config.settings import Settings
from streams.errors import RecoveryError, StateError
from streams.kafka import changelog
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import Serial
from streams.runtime.log_ends import Standing, look
from streams.runtime.partition import Partition
from streams.runtime.publisher import Publisher
from streams.runtime.recovery import Recovery
from streams.runtime.start_checks import check_start
from streams.runtime.store_opening import open_store

MakeTask = Callable[[int, RowStore], PartitionProcessor]
Read = Callable[[int, Mapping[tuple[str, int], int]], Awaitable[None]]


class Assignment:
    """The partitions that one generation of the workers' group gave to this worker.

    Every rebalance makes another assignment, also of partitions that stay. All that is done for an assignment is done
    by its own coroutine (`run`) and by calls on the object, so nothing of an earlier generation can act on a later
    one: once it is closed, its coroutine has ended and it holds no partitions.
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
        read: Read,
        last_recovery: float = 0.0,
        accept_loss: bool = False,
    ) -> None:
        """number: of this assignment, in the worker's own count. make_task: a task over a recovered store. read: starts
        the reading of the sources for the assignment of that number, from the offsets given."""
        self.number, self.owned = number, owned
        self.partitions: dict[int, Partition] = {}
        self.recovery = Recovery(settings.changelog, settings.state.recovery_deadline, last_recovery)
        self.begun = False
        self._settings, self._metrics, self._block_cache = settings, metrics, block_cache
        self._make_task, self._read, self._accept_loss = make_task, read, accept_loss
        self._ended = False  # True once rest() or close() has been called
        self._before: Assignment | None = None  # until it is closed
        self._running: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    def start(self, before: Assignment | None, guard: Callable[[Awaitable[None]], Awaitable[None]]) -> None:
        """Run beside the caller; before: the assignment that this one follows, closed first. guard: ends the process
        on an error."""
        self._before = before
        self.recovery.start()
        self._running = asyncio.ensure_future(guard(self.run()))

    async def run(self) -> None:
        """Fence off former owners, open the stores, read what the changelog holds beyond them, start the tasks."""
        await self._close_before()
        if self.owned:
            standing = await self._open()
            await self._recover(standing)
        if self._ended:  # the cancellation was lost in a client
            return
        self.recovery.ready()
        self.begun = True
        positions = {
            (topic, number): offset
            for number, part in self.partitions.items()
            if part.task is not None
            for topic, offset in part.task.queued_ends().items()
        }
        await self._read(self.number, positions)

    async def _open(self) -> Standing:
        """Starting the producers aborts what a former owner left open, so what is measured afterwards is the end."""
        publishers = {number: Publisher(self._settings, number) for number in sorted(self.owned)}
        try:
            await asyncio.gather(*(publisher.start() for publisher in publishers.values()))
            standing = await asyncio.to_thread(look, self._settings, sorted(self.owned))
            cache_rows = max(1000, self._settings.state.cache_rows // len(self.owned))
            for number, publisher in publishers.items():
                store = open_store(
                    self._settings,
                    number,
                    standing,
                    cache_rows=cache_rows,
                    block_cache=self._block_cache,
                    accept_loss=self._accept_loss,
                    now=int(time.time() * 1000),
                )
                self.recovery.measure(number, store.offset() or 0, standing.ends[self._settings.changelog, number])
                self.partitions[number] = Partition(number, store, publisher, self._metrics)
        finally:
            left = [publisher for number, publisher in publishers.items() if number not in self.partitions]
            await asyncio.gather(*(publisher.stop() for publisher in left), return_exceptions=True)
        return standing

    async def _recover(self, standing: Standing) -> None:
        """Read the changelog up to the ends in `standing`, then make the tasks.

        Between the two, the newest progress is looked up by another read of the changelog's end: a task begins from
        that progress or not at all, and its publisher commits nothing but what follows it.
        """
        reading = {
            number: part.store.offset() or 0
            for number, part in self.partitions.items()
            if self.recovery.left_of(number)
        }
        if reading:
            async with changelog.batches(self._settings, reading) as batches:
                async for batch in batches:
                    part = self.partitions[batch.partition]
                    if part.recover(batch, accept_loss=self._accept_loss):
                        self.recovery.advance(batch.partition, batch.last + 1)
                    if not self.recovery.left:
                        break
                    await asyncio.sleep(0)
        newest = await changelog.newest_serials(self._settings, sorted(self.owned))
        tasks = {}
        for number in self.partitions:
            tasks[number] = self._task(number, standing, newest.get(number))
            await asyncio.sleep(0)  # building an index takes long; a rebalance may be waiting
        for number, task in tasks.items():
            self.partitions[number].begin(task)

    def _task(self, number: int, standing: Standing, newest: Serial | None) -> PartitionProcessor:
        part, at = self.partitions[number], f"{self._settings.changelog}/{number}"
        if self.recovery.left_of(number):
            raise RecoveryError(f"partition {number}: its recovery ended early: {self.recovery.where()}")
        part.store.build_index()
        try:
            task = self._make_task(number, part.store)
        except ValueError as error:
            raise StateError(f"partition {number}: {error}") from error
        if newest is not None and task.progress.serial != newest:
            raise RecoveryError(
                f"partition {number}: the newest progress in {at} is {newest}, the recovered one is "
                f"{task.progress.serial}: nothing is begun from it"
            )
        check_start(
            task,
            number,
            standing,
            accept_loss=self._accept_loss,
            had_rows=bool(part.store.scan(None, 1)),
            searched=f"{at} was read from {standing.starts[self._settings.changelog, number]} to "
            f"{standing.ends[self._settings.changelog, number]}",
        )
        part.store.note_complete(int(time.time() * 1000))
        return task

    async def flush(self, *, last: bool = False) -> None:
        """Flush all partitions that have begun; last: nothing is flushed after it."""
        await asyncio.gather(*(part.flush(last=last) for part in list(self.partitions.values())))

    async def rest(self) -> None:
        """The partitions go: flush what was applied. The rest of `close` goes on beside the caller."""
        self._ended, self.begun = True, False
        await self.flush(last=True)
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())

    async def close(self) -> None:
        """End the coroutine and close what it opened; nothing is flushed."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._ended, self.begun = True, False
        self.recovery.end()
        while self._running is not None and not self._running.done():
            self._running.cancel()  # a client may have suppressed the one before
            await asyncio.wait([self._running], timeout=1.0)
        await self._close_before()
        parts, self.partitions = list(self.partitions.values()), {}
        for part in parts:
            await part.close()

    async def _close_before(self) -> None:
        """The assignment that this one follows, and those before it: their stores and producers go first."""
        if self._before is not None:
            await self._before.close()
            self._before = None
