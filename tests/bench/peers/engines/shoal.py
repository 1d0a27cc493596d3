"""shoal's own parts around the small job.

Shared with `shoal worker`: the group and the batch transport (streams/transport), the decoder (streams/schemas), the
transactions, progress records and fencing (streams/runtime/publisher.py), the rows' cache and RocksDB
(state/stores), the changelog's reading (streams/kafka). Of its own: the fold, which is the one that the other Python
engines call (job.py), an event at a time, in place of the compiled or numpy core; rows in msgpack in place of the
product's layout, and therefore the assignment, since the product's reads no rows but its own. Left out, as the job has
none of it: the merge of sources, exits, segments, alerts, the learner and the status page.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import faust
import msgspec
import numpy as np

from state.stores.database import block_cache
from state.stores.rocksdb import RowStore
from streams.config.factories import schema_of
from streams.config.settings import Settings, load
from streams.kafka import changelog
from streams.kafka.topics import ensure
from streams.processing import progress
from streams.processing.outputs.output_buffer import Flush
from streams.processing.progress import PROGRESS_KEY, Progress, Source
from streams.runtime import heap
from streams.runtime.fatal_errors import exit_with_error
from streams.runtime.log_bounds import read_log_bounds
from streams.runtime.publisher import Publisher
from streams.runtime.store_opening import open_store
from streams.schemas.event_batch import TYPES
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import Schema
from streams.transport import faust_app
from tests.bench.peers import job
from tests.bench.peers.engine import PythonEngine, Run

ENGINE = PythonEngine(
    name="shoal, this job",
    version="this commit",
    guarantee="exactly once",
    commit=0.25,
    note="transport, decoder, transactions and store of shoal, with the job's fold; one process, one thread",
    state_in_kafka=True,
    module="tests.bench.peers.engines.shoal",
)
TOPICS = (
    *("segment_changes", "segments", "alerts", "dead_letters", "training_rows", "models", "segment_lineage"),
    *("commands", "commands_results"),
)


encode_row = msgspec.msgpack.Encoder().encode
decode_row = msgspec.msgpack.Decoder(list[Any]).decode
encode_change = msgspec.json.Encoder().encode
SIGN = np.array([job.SIGN.get(kind, 0) for kind in (*TYPES, "other")], np.int64)


def settings_of(run: Run) -> Settings:
    """A deployment that reads the events and whose other topics are its own."""
    return load(
        environ={},
        application=run.name,
        sources=[{"name": run.events}],
        **{
            "kafka.bootstrap_servers": run.bootstrap,
            "topics.partitions": run.partitions,
            "topics.replication": 1,
            "topics.min_insync_replicas": 1,
            "topics.source_retention": -1,
            "state.datadir": run.folder,
            "state.flush_interval": run.commit,
            **{f"topics.{name}": f"{run.name}-{name.replace('_', '-')}" for name in TOPICS},
        },
    )


class Partition:
    """A partition's rows, and what has come since its last flush."""

    def __init__(self, run: Run, schema: Schema, number: int, store: RowStore, publisher: Publisher) -> None:
        self.run, self.schema, self.number, self.store, self.publisher = run, schema, number, store, publisher
        self.progress = Progress()
        self.lock = asyncio.Lock()
        self.rows: dict[bytes, bytes | None] = {}
        self.changes: list[Any] = []

    def begin(self, topic_id: str) -> None:
        """From the newest progress."""
        (stored,) = self.store.get_many([PROGRESS_KEY])
        if stored is not None:
            self.progress = progress.loads(stored)
        self.progress.sources.setdefault(self.run.events, Source(topic=topic_id))
        self.publisher.committed = self.progress.serial

    def take(self, batch: RecordBatch) -> None:
        source = self.progress.sources[self.run.events]
        events = self.schema.decode(batch, source=0, key_before=source.key, now=int(time.time() * 1000))
        if events.rejects:
            raise ValueError(f"rejected: {next(iter(events.rejects.values())).reason}")
        users = list(dict.fromkeys(events.users))
        stored = self.store.get_many(users)
        states = {u: decode_row(row) if row else job.new_state() for u, row in zip(users, stored, strict=True)}
        spends = (events.amount * SIGN[events.type]).tolist()
        for record, at, spend in zip(events.record.tolist(), events.time.tolist(), spends, strict=True):
            user = events.users[record]
            if change := job.apply(states[user], user.decode(), at, spend):
                self.changes.append((user, encode_change(change), []))
        rows: dict[bytes, bytes | None] = {user: encode_row(state) for user, state in states.items()}
        self.store.put_many(rows)
        self.rows |= rows
        source.offset = batch.last + 1
        self.progress.ordinal += len(batch)
        if len(batch):
            source.key = int(events.key[-1])

    async def flush(self) -> None:
        """One transaction, then RocksDB; batches go on while it is under way."""
        async with self.lock:
            if not self.rows:
                return
            now = self.progress
            now.number += 1
            now.wall = int(time.time() * 1000)
            rows, changes = self.rows | {PROGRESS_KEY: progress.dumps(now)}, self.changes
            self.rows, self.changes = {}, []
            outputs = {(self.run.changes, self.number): changes} if changes else {}
            flush = Flush(rows, {}, outputs, {}, 0, now.serial, np.zeros(0, np.int64))
            self.store.write_flush(rows, await self.publisher.commit(flush))

    async def close(self) -> None:
        async with self.lock:
            await self.publisher.stop()
            self.store.close()


class Worker:
    """What streams/transport/faust_app.py asks of one."""

    def __init__(self, run: Run) -> None:
        self.run, self.settings = run, settings_of(run)
        self._schema = schema_of(self.settings.sources[0], self.settings)
        self.on_start = None
        self.partitions: dict[int, Partition] = {}
        self._cache = block_cache(self.settings.state.block_cache_mb)
        self._number = 0  # of the assignment
        self._assigning: asyncio.Future[None] | None = None
        self._ticking: asyncio.Future[None] | None = None
        self.app = faust_app.build(self)  # type: ignore[arg-type]

    def assign(self, partitions: set[int]) -> None:
        self._number += 1
        self._assigning = asyncio.ensure_future(self.exit_on_error(self._assign(self._number, sorted(partitions))))

    async def _assign(self, number: int, owned: list[int]) -> None:
        """Fence off former owners, open the stores, read what the changelog holds beyond them, begin."""
        begun = time.monotonic()
        publishers = {n: Publisher(self.settings, n) for n in owned}
        await asyncio.gather(*(publisher.start() for publisher in publishers.values()))
        bounds = await asyncio.to_thread(read_log_bounds, self.settings, owned)
        rows = self.settings.state.cache_rows // max(1, len(owned))
        parts = {}
        for n in owned:
            now = int(time.time() * 1000)
            store = open_store(
                self.settings, n, bounds, cache_rows=rows, block_cache=self._cache, accept_loss=False, now=now
            )
            parts[n] = Partition(self.run, self._schema, n, store, publishers[n])
        ends = {n: bounds.ends[self.settings.changelog, n] for n in owned}
        left = {n: at for n, part in parts.items() if (at := part.store.offset() or 0) < ends[n]}
        if left:
            async with changelog.batches(self.settings, dict(left)) as batches:
                async for batch in batches:
                    parts[batch.partition].store.apply(batch.keys, batch.values, batch.last + 1)
                    if batch.last + 1 >= ends[batch.partition]:
                        left.pop(batch.partition, None)
                    if not left:
                        break
                    await asyncio.sleep(0)
        for part in parts.values():
            part.begin(bounds.topic_ids[self.run.events])
            part.store.note_complete(int(time.time() * 1000))
        self.partitions = parts
        positions = {(self.run.events, n): part.progress.sources[self.run.events].offset for n, part in parts.items()}
        logging.getLogger(__name__).warning("ready after %.1f s", time.monotonic() - begun)
        await self.app.consumer.start_reading(number, positions)

    async def process_fetch(self, assignment: int, batch: RecordBatch) -> None:
        part = self.partitions.get(batch.partition)
        if assignment == self._number and part is not None and batch.topic == self.run.events:
            part.take(batch)

    def start_background_tasks(self) -> None:
        self._ticking = asyncio.ensure_future(self.exit_on_error(self._tick()))

    async def _tick(self) -> None:
        trimmed = time.monotonic()
        while True:
            await asyncio.sleep(self.run.commit)
            await self.flush()
            if time.monotonic() - trimmed > 5.0:
                trimmed = time.monotonic()
                await asyncio.to_thread(heap.trim)

    async def flush(self) -> None:
        await self.exit_on_error(asyncio.gather(*(part.flush() for part in list(self.partitions.values()))))

    async def revoke(self) -> None:
        """Before a rebalance takes the partitions, and before the end."""
        self._number += 1
        if self._assigning is not None:
            await asyncio.wait([self._assigning])
        await self.flush()
        await self.close()

    async def close(self) -> None:
        parts, self.partitions = list(self.partitions.values()), {}
        for part in parts:
            await part.close()

    async def stop_repartitioning(self) -> None:
        pass

    async def exit_on_error(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            exit_with_error(error)


def main(run: Run) -> None:
    Path(run.folder).mkdir(parents=True, exist_ok=True)
    heap.configure()
    worker = Worker(run)
    ensure(worker.settings)
    faust.Worker(
        worker.app, loglevel="WARN", redirect_stdouts=False, quiet=True, override_logging=False
    ).execute_from_commandline()


if __name__ == "__main__":
    main(Run.from_environ())
