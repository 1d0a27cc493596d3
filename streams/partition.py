"""One partition that a worker owns: its rows, its producer, its task, and the flush that ties them."""

from __future__ import annotations

import asyncio
import time

from monitoring.metrics import Metrics
from state.store import RowStore
from streams.errors import RejectsError, StateError
from streams.progress import PROGRESS_KEY
from streams.publisher import Publisher
from streams.records import RecordBatch
from streams.task import Task


class Partition:
    """Alive from an assignment to the next."""

    def __init__(self, number: int, store: RowStore, publisher: Publisher, metrics: Metrics) -> None:
        self.number, self.store, self._publisher, self._metrics = number, store, publisher, metrics
        self.task: Task | None = None  # from the end of recovery on
        self.waits_since: float | None = None  # monotonic seconds, while the task's model version is not there
        self.acked: dict[str, int] = {}  # next offset of each source that the last flush stands for
        self._lock = asyncio.Lock()
        self._closed = False

    async def start(self) -> None:
        """Fence off a former owner and abort what that left open."""
        await self._publisher.start()

    def recover(self, batch: RecordBatch) -> None:
        """Changelog records, in recovery: what follows on what the store holds.

        Leftovers of a recovery that a rebalance ended are passed over; StateError for a hole.
        """
        held = self.store.offset() or 0
        if batch.last < held:
            return
        if batch.first > held:
            raise StateError(f"partition {self.number}: the changelog goes on at {batch.first}, the rows end at {held}")
        self.store.apply([key or b"" for key in batch.keys], batch.values, batch.last + 1)
        self._metrics.count({"recovered": len(batch)})

    async def flush(self) -> None:
        """What has come since the last flush: one transaction, then RocksDB. Batches go on while it is under way.

        TransactionError where it failed, RejectsError once what the task had before it stopped is committed.
        """
        async with self._lock:
            if self.task is None or self._closed:
                return
            begun = time.time()
            flush = self.task.cut(int(begun * 1000))
            stopped = self.task.progress.stopped  # as it was cut: what comes meanwhile is not committed yet
            self._metrics.count(self.task.counts)
            self.task.counts.clear()
            if flush is not None:
                offset = await self._publisher.commit(flush)
                self.store.written(flush.rows, offset, flush.index, flush.swept)
                self.acked = flush.acked
                done = time.time()
                self._metrics.observe_flush(done - begun)
                self._metrics.observe_latency(done - flush.event_times / 1000.0)
                written = [row for key, row in flush.rows.items() if key != PROGRESS_KEY and row is not None]
                self._metrics.count({"rows": len(written), "row_bytes": sum(map(len, written))})
            if stopped:
                raise RejectsError(stopped)

    async def close(self) -> None:
        """Let go, after a flush that is under way."""
        async with self._lock:
            self._closed = True
            await self._publisher.stop()
            self.store.close()
