"""One partition that a worker owns: its rows, its producer, its task, and the flush that writes them."""

from __future__ import annotations

import asyncio
import time

from monitoring.metrics import Metrics
from state.stores.rocksdb import RowStore
from streams.errors import RecoveryError, RejectsError, StateError
from streams.kafka.changelog import unreadable
from streams.processing.outputs.output_buffer import Flush
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import PROGRESS_KEY
from streams.runtime.data_loss import print_notice
from streams.runtime.publisher import Publisher
from streams.schemas.record_batch import RecordBatch


class Partition:
    """Exists from one assignment to the next."""

    def __init__(self, number: int, store: RowStore, publisher: Publisher, metrics: Metrics) -> None:
        self.number, self.store, self._publisher, self._metrics = number, store, publisher, metrics
        self.task: PartitionProcessor | None = None  # None until the recovery is complete
        self.model_wait_since: float | None = None  # monotonic seconds, while the task's model version is missing
        self.flushed_offsets: dict[str, int] = {}  # next offset of each source, as of the last flush
        self.flushing_since: float | None = None  # monotonic seconds, while a flush is under way
        self._lock = asyncio.Lock()
        self._closed = False

    def recover(self, batch: RecordBatch, *, accept_loss: bool = False) -> bool:
        """Apply changelog records that continue the store's rows.

        False where the store has the records already: they were fetched for a recovery that a rebalance ended.
        StateError for a gap, RecoveryError for a record that is neither a row nor a progress of this version.
        """
        offset = self.store.offset() or 0
        if batch.last < offset:
            return False
        if batch.first > offset:
            gap = f"the changelog continues at {batch.first}, the rows end at {offset}"
            raise StateError(f"partition {self.number}: {gap}")
        keys, values = batch.keys, batch.values
        if bad := unreadable(keys, values):
            where = f"{batch.topic}/{batch.partition}: the record at offset {batch.offsets[min(bad)]}"
            if not accept_loss:
                reason = f"{where} cannot be read: {bad[min(bad)]}"
                raise RecoveryError(f"{reason}; --accept-loss goes on without it")
            print_notice(f"loss accepted: {where} and {len(bad) - 1} after it cannot be read, left out")
            readable = [i for i in range(len(keys)) if i not in bad]
            keys, values = [keys[i] for i in readable], [values[i] for i in readable]
        self.store.apply([key or b"" for key in keys], values, batch.last + 1)
        self._metrics.count({"recovered": len(batch)})
        return True

    def start(self, task: PartitionProcessor) -> None:
        """Start processing with a task over the recovered rows; its progress is the newest in the changelog."""
        self._publisher.committed = task.progress.serial
        self.task = task

    async def flush(self, *, last: bool = False) -> None:
        """Write what has changed since the last flush: one transaction, then RocksDB.

        The task goes on with batches while the transaction is under way. last: no flush follows.
        TransactionError where the transaction failed. RejectsError where the task has stopped because of rejects, after
        what it had applied before is committed.
        """
        async with self._lock:
            if self.task is None or self._closed:
                return
            self._closed = last
            started = time.time()
            flush = self.task.cut(int(started * 1000))
            # Read together with the cut: a stop that the task decides later is not committed yet.
            stopped = self.task.progress.stopped
            self._metrics.count(self.task.counts)
            self.task.counts.clear()
            if flush is not None:
                self.flushing_since = time.monotonic()
                # The changelog comes first, so RocksDB can be behind it but never ahead of it.
                offset = await self._publisher.commit(flush)
                self.store.write_flush(flush.rows, offset, flush.index, flush.swept)
                self.flushed_offsets, self.flushing_since = flush.acked, None
                self._observe(flush, started)
            if stopped:
                raise RejectsError(stopped)

    def _observe(self, flush: Flush, started: float) -> None:
        """Count a completed flush in the metrics. started: wall clock, seconds."""
        finished = time.time()
        self._metrics.observe_flush(finished - started)
        self._metrics.observe_latency(finished - flush.event_times / 1000.0)
        rows = [row for key, row in flush.rows.items() if key != PROGRESS_KEY and row is not None]
        self._metrics.count({"rows": len(rows), "row_bytes": sum(map(len, rows))})

    async def close(self) -> None:
        """Close producer and store, after a flush that is under way."""
        async with self._lock:
            self._closed = True
            await self._publisher.stop()
            self.store.close()
