"""The worker: Faust around the tasks of the partitions it owns."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import faust
import numpy as np

from online_models.version import Version
from state.store import ForeignStore, Meta, RowStore, block_cache
from streams.errors import LossError, ShoalError, StateError
from streams.learner import LearnerService
from streams.models import Models
from streams.publisher import Publisher
from streams.records import RecordBatch
from streams.rules import rule_of, schema_of
from streams.security import faust_broker
from streams.settings import Settings
from streams.table import RowTable
from streams.task import Task, Topics
from streams.transport import BatchSchema, Transport
from streams.wire import shoal
from streams.wire.events import EventBatch

log = logging.getLogger(__name__)
PASS_ROWS = 2_000  # users a turn of the pass after a swap: a few milliseconds between two batches


class Partition:
    """What a worker holds for one partition that it owns."""

    def __init__(self, store: RowStore, publisher: Publisher) -> None:
        self.store, self.publisher = store, publisher
        self.task: Task | None = None
        self.lock = asyncio.Lock()


class Worker:
    """One process's share of the partitions."""

    def __init__(self, settings: Settings, *, accept_rejects: bool = False, accept_loss: bool = False) -> None:
        self.settings = settings
        self._accept_rejects, self._accept_loss = accept_rejects, accept_loss
        self.partitions: dict[int, Partition] = {}
        self.ready = False
        self.counts: Counter[str] = Counter()
        self.recovered = 0
        self.latencies: list[float] = []
        self._cache = block_cache(settings.state.block_cache_mb)
        self._schemas = [schema_of(source, settings) for source in settings.sources]
        self._topics = Topics(
            settings.topic("segment_changes"), settings.topic("segments"), settings.topic("alerts"),
            settings.topic("dead_letters"), settings.topic("training_rows"),
        )  # fmt: skip
        self.models = Models(settings, self._adopt)
        self.learner = LearnerService(settings)
        self.app = self._build()

    # -- ownership ----------------------------------------------------------------------------------------------

    async def own(self, owned: set[int]) -> None:
        """After an assignment: all starts from RocksDB and the changelog, also where a partition stays.

        Starting the producers here, before recovery measures the changelog, aborts what a dead owner left open.
        """
        await self._guard(self._own(owned))

    async def _own(self, owned: set[int]) -> None:
        self.ready = False
        await self._release()
        for number in sorted(owned):
            meta = Meta(f"{self.settings.prefix}{self.settings.application}", number, self.settings.topics.partitions)
            try:
                store = RowStore(
                    Path(self.settings.state.datadir) / str(number), meta,
                    cache_rows=max(1000, self.settings.state.cache_rows // max(1, len(owned))), block_cache=self._cache,
                )  # fmt: skip
            except ForeignStore as error:
                raise StateError(str(error)) from error
            self.partitions[number] = Partition(store, Publisher(self.settings, number))
        await asyncio.gather(*(part.publisher.start() for part in self.partitions.values()))

    async def _release(self) -> None:
        parts = list(self.partitions.values())
        self.partitions = {}
        for part in parts:
            async with part.lock:
                await part.publisher.stop()
                part.store.close()

    def local_offset(self, partition: int) -> int | None:
        part = self.partitions.get(partition)
        return None if part is None else part.store.offset()

    def recover(self, batch: RecordBatch) -> None:
        """Changelog records of a partition, in recovery."""
        part = self.partitions.get(batch.partition)
        if part is not None:
            part.store.apply([key or b"" for key in batch.keys], batch.values, batch.last + 1)
            self.recovered += len(batch)

    async def begin(self) -> None:
        """Recovery is over: tasks start from their progress."""
        await self._guard(self._begin())

    async def _begin(self) -> None:
        from faust.types import TP

        for number, part in self.partitions.items():
            try:
                part.task = Task(
                    rule_of(self.settings, number), self._decode, part.store, self._topics,
                    accept_rejects=self._accept_rejects, reject_window=self.settings.rejects.window,
                    reject_share=self.settings.rejects.share,
                )  # fmt: skip
            except ValueError as error:
                raise StateError(f"partition {number}: {error}") from error
            earliest = await self.app.consumer.earliest_offsets(*[TP(t, number) for t in self.settings.source_topics])
            for tp, offset in earliest.items():
                at = part.task.positions()[tp.topic]
                if at < offset:
                    if not part.task.fresh and not self._accept_loss:
                        raise LossError(
                            f"{tp.topic}/{number} starts at {offset}, the progress stands at {at}: records between "
                            "are gone; --accept-loss goes on"
                        )
                    part.task.skip_to(tp.topic, offset)
            for version in sorted(self.models.versions.values(), key=lambda v: v.number):
                part.task.adopt(version)
        self.ready = True

    def _resume_at(self) -> dict[tuple[str, int], int]:
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

    async def _take(self, task: Task, batch: RecordBatch) -> None:
        """A fetch for a task: contiguous, or a leftover of an earlier assignment, or after a hole, which is read."""
        end = task.queued_ends()[batch.topic]
        if task.offer(batch):
            self._turn(batch.partition)
        elif batch.last >= end:
            log.warning("%s/%d: given %d, expected %d: reading again", batch.topic, batch.partition, batch.first, end)
            self.app.consumer.seeks[batch.topic] += 1
            await self.app.consumer.read_from(batch.topic, batch.partition, end)

    # -- the turn -----------------------------------------------------------------------------------------------

    def _turn(self, number: int) -> None:
        part = self.partitions.get(number)
        if part is None or part.task is None:
            return
        ends = self.app.consumer.ends()
        now = int(time.time() * 1000)
        part.task.run(now, {topic: ends.get((topic, number)) for topic in self.settings.source_topics})
        held = {(topic, number) for topic in part.task.held()}
        self.app.consumer.held = {at for at in self.app.consumer.held if at[1] != number} | held

    async def _flush(self, part: Partition) -> None:
        async with part.lock:
            task = part.task
            if task is None or part not in self.partitions.values():
                return
            self.counts.update(task.counts)
            task.counts.clear()
            flush = task.cut(int(time.time() * 1000))
            if flush is not None:
                offset = await part.publisher.commit(flush)
                part.store.written(flush.rows, offset)
                if len(flush.event_times):
                    self.latencies = (time.time() - flush.event_times / 1000.0).tolist()[-1000:]
            task.check()

    async def flush_all(self) -> None:
        await self._guard(asyncio.gather(*(self._flush(part) for part in list(self.partitions.values()))))

    async def _ticker(self) -> None:
        while True:
            await asyncio.sleep(self.settings.state.flush_interval)
            for number, part in list(self.partitions.items()):
                self._turn(number)
                if part.task is not None:
                    part.task.sweep(PASS_ROWS)
                await asyncio.sleep(0)
            await self.flush_all()

    async def _guard(self, work: Awaitable[Any]) -> None:
        """A failure here ends the process: Faust cannot give back a single partition."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            fail(error)

    # -- Faust --------------------------------------------------------------------------------------------------

    def _build(self) -> Any:
        settings = self.settings
        state = settings.state
        datadir = Path(state.datadir) / "faust"
        datadir.mkdir(parents=True, exist_ok=True)
        app = faust.App(
            f"{settings.prefix}{settings.application}",
            **faust_broker(settings), store="memory://", datadir=str(datadir), web_enabled=False, topic_partitions=settings.topics.partitions,
            topic_allow_declare=False, topic_disable_leader=True, consumer_auto_offset_reset="earliest",
            stream_wait_empty=False, stream_buffer_maxsize=16, table_standby_replicas=0,
            broker_max_poll_records=state.max_poll_records, broker_session_timeout=state.session_timeout,
            broker_rebalance_timeout=state.rebalance_timeout,
            broker_heartbeat_interval=min(3.0, state.session_timeout / 4), Table=RowTable,
        )  # fmt: skip
        app.transport = Transport(app.conf.broker_consumer, app, resume_at=self._resume_at)
        table = app.Table(
            "state", partitions=settings.topics.partitions, schema=BatchSchema(), key_type=bytes, value_type=bytes,
            recovery_buffer_size=8,
        )  # fmt: skip
        table.worker = self
        sources = app.topic(*settings.source_topics, schema=BatchSchema(), value_type=None)

        @app.agent(sources)
        async def batches(stream: Any) -> None:
            async for event in stream.noack().events():
                part = self.partitions.get(event.message.partition)
                if part is None or part.task is None:
                    continue
                await self._guard(self._take(part.task, event.value))
                await asyncio.sleep(0)

        @app.task
        async def start() -> None:
            gc.collect()
            gc.freeze()
            gc.set_threshold(100_000, 20, 20)
            for work in (self.models.run(), self.learner.run(), self._ticker()):
                self._services.append(asyncio.ensure_future(self._guard(work)))

        self._services: list[asyncio.Future[None]] = []

        @app.on_partitions_revoked.connect
        async def revoked(*_: Any, **__: Any) -> None:
            await self.flush_all()

        return app

    def status(self) -> dict[str, Any]:
        """What this worker owns and how far it is."""
        consumer = self.app.consumer
        ends = consumer.ends() if self.ready else {}
        parts = {}
        for number, part in sorted(self.partitions.items()):
            if part.task is None:
                continue
            progress = part.task.progress
            parts[number] = {
                "sources": {
                    topic: {"offset": offset, "end": ends.get((topic, number))}
                    for topic, offset in part.task.positions().items()
                },
                "users": progress.users,
                "sizes": progress.sizes,
                "watermark": progress.watermark,
                "holding": progress.holding,
                "model_version": progress.version,
                "pass_under_way": part.task.swap_pending,
            }
        newest = self.models.newest
        lag = Counter(self.counts)
        return {
            "ready": self.ready, "partitions": parts, "counts": dict(lag), "recovered": self.recovered,
            "newest_version": newest.number if newest else 0,
            "continuity_seeks": dict(consumer.seeks) if self.ready else {},
            "latency_seconds": float(np.median(self.latencies)) if self.latencies else None,
        }  # fmt: skip


def fail(error: BaseException) -> None:
    """Say why and leave at once: what was not committed is done again by the next owner."""
    code = error.exit_code if isinstance(error, ShoalError) else 1
    if isinstance(error, ShoalError):
        print(f"shoal: error: {error}", file=sys.stderr, flush=True)
    else:
        log.critical("worker failed", exc_info=error)
        print(f"shoal: error: {error!r}", file=sys.stderr, flush=True)
    os._exit(code)
