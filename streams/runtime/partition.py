"""One partition that a worker owns: its rows, its producer, its task, and the flush that ties them."""

from __future__ import annotations

import asyncio
import time

from monitoring.metrics import Metrics
from state.stores.rocksdb import RowStore
from streams.errors import RecoveryError, RejectsError, StateError
from streams.kafka.changelog import unreadable
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import PROGRESS_KEY
from streams.runtime.data_loss import tell
from streams.runtime.publisher import Publisher
from streams.schemas.record_batch import RecordBatch


class Partition:
    """Alive from an assignment to the next."""

    def __init__(self, number: int, store: RowStore, publisher: Publisher, metrics: Metrics) -> None:
        self.number, self.store, self._publisher, self._metrics = number, store, publisher, metrics
        self.task: PartitionProcessor | None = None  # from the end of recovery on
        self.waits_since: float | None = None  # monotonic seconds, while the task's model version is not there
        self.acked: dict[str, int] = {}  # next offset of each source that the last flush stands for
        self.flushing_since: float | None = None  # monotonic seconds, while a flush is under way
        self._lock = asyncio.Lock()
        self._closed = False

    def recover(self, batch: RecordBatch, *, accept_loss: bool = False) -> bool:
        """Changelog records, in recovery: what follows on what the store holds.

        False for leftovers of a recovery that a rebalance ended; StateError for a hole, RecoveryError for a record that
        is no row and no progress of this version.
        """
        held = self.store.offset() or 0
        if batch.last < held:
            return False
        if batch.first > held:
            raise StateError(f"partition {self.number}: the changelog goes on at {batch.first}, the rows end at {held}")
        keys, values = batch.keys, batch.values
        if bad := unreadable(keys, values):
            where = f"{batch.topic}/{batch.partition}: the record at offset {batch.offsets[min(bad)]}"
            if not accept_loss:
                what = f"{where} cannot be read: {bad[min(bad)]}"
                raise RecoveryError(f"{what}; --accept-loss goes on without it")
            tell(f"loss accepted: {where} and {len(bad) - 1} after it cannot be read, left out")
            left = [i for i in range(len(keys)) if i not in bad]
            keys, values = [keys[i] for i in left], [values[i] for i in left]
        self.store.apply([key or b"" for key in keys], values, batch.last + 1)
        self._metrics.count({"recovered": len(batch)})
        return True

    def begin(self, task: PartitionProcessor) -> None:
        """The rows are recovered, and this is their task: its progress is the newest in the changelog."""
        self._publisher.committed = task.progress.serial
        self.task = task

    async def flush(self, *, last: bool = False) -> None:
        """What has come since the last flush: one transaction, then RocksDB. Batches go on while it is under way.

        last: nothing is flushed after it. TransactionError where it failed, RejectsError once what the task had before
        it stopped is committed.
        """
        async with self._lock:
            if self.task is None or self._closed:
                return
            self._closed = last
            begun = time.time()
            flush = self.task.cut(int(begun * 1000))
            stopped = self.task.progress.stopped  # as it was cut: what comes meanwhile is not committed yet
            self._metrics.count(self.task.counts)
            self.task.counts.clear()
            if flush is not None:
                self.flushing_since = time.monotonic()
                offset = await self._publisher.commit(flush)
                self.store.written(flush.rows, offset, flush.index, flush.swept)
                self.acked, self.flushing_since = flush.acked, None
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
