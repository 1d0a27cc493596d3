"""The re-keyer of one source, beside the worker: one of all workers is the owner, every worker sees how far it is.

The owner has the one partition of the progress topic in a plain consumer group, and reads all partitions of the raw
topic outside any group. One transaction holds the records sent on, the dead letters and the progress; starting the
producer fences off a former owner.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streams.config.factories import schema_of
from streams.config.settings import Settings, SourceSettings
from streams.errors import BrokerError, LossError, RejectsError, StateError, TransactionError
from streams.kafka.client_options import aiokafka_options
from streams.kafka.fetch import FETCH_WAIT_MS, drain, ends, unpack
from streams.kafka.reader import reading, to_end
from streams.kafka.topics import describe_topic
from streams.processing import repartition
from streams.processing.repartition import Progress, Rekey
from streams.runtime.data_loss import refuse
from streams.runtime.publisher import send, transaction, transactional
from streams.schemas.record_batch import RecordBatch
from streams.services.ownership import Ownership, member

log = logging.getLogger(__name__)
PROGRESS_KEY = b"progress"
TAIL = 200  # records from the end of the progress topic in which the newest is looked for first
PENDING = 50_000  # records after which a transaction is not put off any more
FETCH_BYTES = 64 << 20  # of all partitions, as the fetcher holds one fetch of each
LOOK = 1.0  # seconds between two looks at how far the re-keyer is
BROKER_WAIT = 10.0  # seconds for the ends of the raw topic
GROWTH = 30.0  # seconds between two looks whether it has more partitions


class Rekeyer:
    """Of one source; `topic` is the keyed one."""

    def __init__(
        self,
        settings: Settings,
        source: SourceSettings,
        count: Callable[[Mapping[str, int]], None],
        *,
        accept_rejects: bool = False,
        accept_loss: bool = False,
    ) -> None:
        self._settings, self._source, self._count = settings, source, count
        self._accept_rejects, self._accept_loss = accept_rejects, accept_loss
        self.topic = settings.prefix + source.name
        self.raw = source.rekey_from or ""
        self._progress = settings.repartition_topic(source)
        self._ownership = Ownership()
        self._held = 0  # generation of the ownership under which the rest stands
        self._producer: AIOKafkaProducer | None = None
        self._reader: AIOKafkaConsumer | None = None
        self._rekey: Rekey | None = None
        self._committed = self._measured = 0.0  # monotonic seconds
        self.behind = True  # records lie in the raw topic that the keyed one is to get before it is at its end
        self.lag = 0  # records of the raw topic not sent on yet

    @property
    def owner(self) -> bool:
        return self._rekey is not None

    # -- the owner ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Re-key, or stand by, until cancelled.

        LossError where records would be passed over or sent twice, RejectsError where the schema must be another,
        TransactionError where a transaction failed: the next owner goes on from the progress.
        """
        consumer = member(self._settings, f"rekey-{self._source.name}", reset="latest")
        consumer.subscribe([self._progress], listener=self._ownership)
        await consumer.start()
        try:
            while True:
                await self._tend(consumer)
        finally:
            await self._let_go()
            await consumer.stop()

    async def _tend(self, consumer: AIOKafkaConsumer) -> None:
        mine = self._ownership
        if self._held != mine.generation:
            await self._let_go()
            self._held = mine.generation
        await consumer.getmany(timeout_ms=0 if mine.owned else 200)  # keeps the membership alive
        if not mine.owned:
            return
        async with mine.lock:
            if self._held != mine.generation:
                return
            if self._rekey is None:
                await self._take_over()
        rekey, reader = self._rekey, self._reader
        assert rekey is not None
        held = {(self.raw, number) for number in rekey.held()}
        state = self._settings.state
        try:
            batches = await drain(
                reader,
                held,
                timeout=state.flush_interval,
                limit=state.max_poll_records,
                unpack=partial(unpack, headers=True),
            )
        except OffsetOutOfRangeError as error:
            raise LossError(
                f"{self.raw}: {error}: records were deleted before they were re-keyed; --accept-loss goes on"
            ) from error
        async with mine.lock:
            if self._held == mine.generation:
                await self._turn(rekey, batches)

    async def _take_over(self) -> None:
        """Fence off a former owner and abort what it left open, then go on where the progress stands."""
        self._producer = transactional(self._settings, f"rekey-{self._source.name}")
        try:
            await self._producer.start()
        except KafkaError as error:
            raise TransactionError(f"{self.topic}: its re-keyer's producer did not start: {error!r}") from error
        ident, partitions = await asyncio.to_thread(describe_topic, self._settings, self.raw)
        self._measured = time.monotonic()
        self._reader = AIOKafkaConsumer(
            **aiokafka_options(self._settings),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=min(1 << 20, max(64 << 10, FETCH_BYTES // partitions)),
        )
        await self._reader.start()
        tps = [TopicPartition(self.raw, number) for number in range(partitions)]
        keyed = [TopicPartition(self.topic, number) for number in range(self._settings.topics.partitions)]
        async with reading(self._settings) as consumer:
            stored = await newest(consumer, self._progress)
            firsts, lasts = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            written = any((await consumer.end_offsets(keyed)).values())
        progress, losses = repartition.resume(
            stored, self.raw, ident, [firsts[tp] for tp in tps], [lasts[tp] for tp in tps], written=written
        )
        for loss in losses:
            refuse(self._accept_loss, loss, "goes on")
        rejects = self._settings.rejects
        self._reader.assign(tps)
        for tp, source in zip(tps, progress.logs, strict=True):
            self._reader.seek(tp, source.offset)
        self._rekey = Rekey(
            progress,
            schema_of(self._source, self._settings),
            topic=self.topic,
            dead_letters=self._settings.topic("dead_letters"),
            partitions=self._settings.topics.partitions,
            limits=None if self._accept_rejects else (rejects.window, rejects.share),
        )
        await self._commit(self._rekey)  # the progress comes before any record, so one without the other is a loss
        log.info("%s: re-keyer, %d partitions of %s", self.topic, partitions, self.raw)

    async def _turn(self, rekey: Rekey, batches: Mapping[Any, RecordBatch]) -> None:
        now = int(time.time() * 1000)
        for batch in batches.values():
            expected = rekey.position(batch.partition)
            if not rekey.offer(batch, now):
                found = batch.first
                raise LossError(f"{self.raw}/{batch.partition}: fetched {found}, expected {expected}")
        rekey.run({number: end for (_, number), end in ends(self._reader).items()})
        since = time.monotonic()
        if rekey.pending >= PENDING or since - self._committed >= self._settings.state.flush_interval:
            await self._commit(rekey)
        if since - self._measured >= GROWTH:
            self._measured = since
            try:
                _, partitions = await asyncio.to_thread(describe_topic, self._settings, self.raw)
            except BrokerError as error:  # slow to answer: the next look tells
                log.warning("%s: not looked at: %s", self.raw, error)
                return
            if partitions != len(rekey.progress.logs):
                await self._commit(rekey)
                await self._let_go()  # and taken over anew, with all of them

    async def _commit(self, rekey: Rekey) -> None:
        self._committed = time.monotonic()
        cut = rekey.cut(int(time.time() * 1000))
        producer = self._producer
        assert producer is not None
        if cut is not None:
            async with transaction(producer, self._settings, f"{self.topic}, re-keyed") as sent:
                for (topic, partition), outputs in cut.outputs.items():
                    sent += await send(producer, topic, partition, outputs.records, outputs.stamps)
                sent += await send(producer, self._progress, 0, [(PROGRESS_KEY, cut.progress, [])])
            self._count(rekey.counts | {f"rekeyed:{self.topic}": cut.records})
            rekey.counts.clear()
        if rekey.progress.stopped:
            raise RejectsError(f"{self.raw}: {rekey.progress.stopped}")

    async def _let_go(self) -> None:
        """What was not committed is done again by the next owner."""
        self._rekey = None
        clients, self._reader, self._producer = (self._reader, self._producer), None, None
        for client in clients:
            if client is not None:
                await client.stop()

    # -- every worker -------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """How far the re-keyer is, until cancelled.

        It is behind until it has gone beyond the ends of the raw topic that were seen a look before, and one look
        longer: by then what it committed can be read. So under steady traffic one that keeps up is not behind.
        """
        progress, before, covered = None, None, False
        async with reading(self._settings) as consumer:
            progress = await newest(consumer, self._progress)
            while True:
                try:
                    for records in (await consumer.getmany(timeout_ms=0)).values():
                        progress = _loads(records[-1].value)
                    if progress is not None:
                        tps = [TopicPartition(self.raw, number) for number in range(len(progress.logs))]
                        found = await asyncio.wait_for(consumer.end_offsets(tps), BROKER_WAIT)
                        at, now = [source.offset for source in progress.logs], [found[tp] for tp in tps]
                        self.lag = sum(max(0, end - offset) for end, offset in zip(now, at, strict=True))
                        was, covered = covered, before is not None and _covers(at, before)
                        self.behind = not (covered and was)
                        before = now
                except (KafkaError, TimeoutError) as error:
                    log.warning("%s: how far its re-keyer is is not known: %r", self.topic, error)
                    self.behind, covered = True, False
                await asyncio.sleep(LOOK)


def _covers(offsets: list[int], ends: list[int]) -> bool:
    """Offsets of as many partitions or more."""
    return all(offset >= end for offset, end in zip(offsets, ends, strict=False))


async def newest(consumer: AIOKafkaConsumer, topic: str) -> Progress | None:
    """The newest progress in a re-keyer's topic, None where there is none; the consumer then goes on behind it."""
    at = TopicPartition(topic, 0)
    consumer.assign([at])
    first, end = (await consumer.beginning_offsets([at]))[at], (await consumer.end_offsets([at]))[at]
    found: bytes | None = None
    for start in sorted({first, max(first, end - TAIL)}, reverse=True):
        async for record in to_end(consumer, {at: start}):
            found = record.value
        if found is not None:
            break
    return None if found is None else _loads(found)


def _loads(data: bytes) -> Progress:
    try:
        return repartition.loads(data)
    except ValueError as error:
        raise StateError(f"{error}") from error
