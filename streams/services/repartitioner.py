"""The repartition service of one source: it writes the records of a raw topic to a topic keyed by user.

Every worker runs the service beside its partitions; the owner of the only partition of the progress topic repartitions,
and every worker watches how far it is. The owner reads all partitions of the raw topic outside any group. One
transaction holds the repartitioned records, the dead letters and the progress. Starting the producer fences off a
former owner.
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
from streams.processing.repartition import Progress, RepartitionProcessor
from streams.runtime.data_loss import refuse_loss
from streams.runtime.publisher import send_records, transaction, transactional_producer
from streams.schemas.record_batch import RecordBatch
from streams.services.ownership import Ownership, group_member

log = logging.getLogger(__name__)
PROGRESS_KEY = b"progress"
TAIL_RECORDS = 200  # at the end of the progress topic, where the newest progress is looked for first
MAX_PENDING = 50_000  # records; with more of them a transaction is committed before its time
FETCH_BYTES = 64 << 20  # of all partitions together, because the fetcher holds one fetch of each
STANDBY_POLL_MS = 200
WATCH_INTERVAL = 1.0  # seconds between two measurements of the lag
END_OFFSETS_TIMEOUT = 10.0  # seconds
PARTITION_CHECK_INTERVAL = 30.0  # seconds between two checks whether the raw topic has more partitions


class RepartitionService:
    """Repartitions one source. `topic` is the topic keyed by user, `raw_topic` the one that it is made from."""

    def __init__(
        self,
        settings: Settings,
        source: SourceSettings,
        count: Callable[[Mapping[str, int]], None],
        *,
        accept_rejects: bool = False,
        accept_loss: bool = False,
    ) -> None:
        """count: adds to the worker's metrics."""
        self._settings, self._source, self._count = settings, source, count
        self._accept_rejects, self._accept_loss = accept_rejects, accept_loss
        self.topic = settings.prefix + source.name
        self.raw_topic = source.rekey_from or ""
        self._progress_topic = settings.repartition_topic(source)
        self._ownership = Ownership()
        self._generation = 0  # of the ownership under which the next three were made
        self._producer: AIOKafkaProducer | None = None
        self._reader: AIOKafkaConsumer | None = None
        self._processor: RepartitionProcessor | None = None
        self._last_commit = self._last_partition_check = 0.0  # monotonic seconds
        self.behind = True  # whether the raw topic holds records that are missing in the keyed one
        self.lag = 0  # records of the raw topic that are not repartitioned yet

    @property
    def owner(self) -> bool:
        return self._processor is not None

    # -- the owner ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Repartition, or stand by, until cancelled.

        LossError where records would be skipped or sent twice. RejectsError where so many are rejected that the schema
        must be wrong. TransactionError where a transaction failed: the next owner resumes from the progress.
        """
        consumer = group_member(self._settings, f"rekey-{self._source.name}", offset_reset="latest")
        consumer.subscribe([self._progress_topic], listener=self._ownership)
        await consumer.start()
        try:
            while True:
                await self._poll(consumer)
        finally:
            await self._release()
            await consumer.stop()

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        """Process one round of fetches; take over before the first one.

        The lock is not held while fetches are awaited, because a rebalance would wait for it. So after each wait the
        generation tells whether the ownership was lost meanwhile.
        """
        ownership = self._ownership
        if self._generation != ownership.generation:
            await self._release()
            self._generation = ownership.generation
        # a member that does not poll is removed from the group
        await consumer.getmany(timeout_ms=0 if ownership.owned else STANDBY_POLL_MS)
        if not ownership.owned:
            return
        async with ownership.lock:
            if self._generation != ownership.generation:
                return
            if self._processor is None:
                await self._take_over()
        processor, reader = self._processor, self._reader
        assert processor is not None
        paused = {(self.raw_topic, number) for number in processor.full_partitions()}
        state = self._settings.state
        try:
            batches = await drain(
                reader,
                paused,
                timeout=state.flush_interval,
                limit=state.max_poll_records,
                unpack=partial(unpack, headers=True),
            )
        except OffsetOutOfRangeError as error:
            raise LossError(
                f"{self.raw_topic}: {error}: records were deleted before they were repartitioned; --accept-loss goes on"
            ) from error
        async with ownership.lock:
            if self._generation == ownership.generation:
                await self._process(processor, batches)

    async def _take_over(self) -> None:
        """Fence off a former owner, abort its transaction, and resume from the progress.

        The progress is read after the fencing, so the former owner cannot write a newer one.
        """
        self._producer = transactional_producer(self._settings, f"rekey-{self._source.name}")
        try:
            await self._producer.start()
        except KafkaError as error:
            raise TransactionError(f"{self.topic}: the repartition producer did not start: {error!r}") from error
        topic_id, partitions = await asyncio.to_thread(describe_topic, self._settings, self.raw_topic)
        self._last_partition_check = time.monotonic()
        self._reader = self._make_reader(partitions)
        await self._reader.start()
        raw = [TopicPartition(self.raw_topic, number) for number in range(partitions)]
        progress = await self._resume(topic_id, raw)
        rejects = self._settings.rejects
        self._reader.assign(raw)
        for tp, source in zip(raw, progress.logs, strict=True):
            self._reader.seek(tp, source.offset)
        self._processor = RepartitionProcessor(
            progress,
            schema_of(self._source, self._settings),
            topic=self.topic,
            dead_letters=self._settings.topic("dead_letters"),
            partitions=self._settings.topics.partitions,
            limits=None if self._accept_rejects else (rejects.window, rejects.share),
        )
        # The progress is written before any record. So records without a progress are a sign of a loss.
        await self._commit(self._processor)
        log.info("%s: owner of repartitioning, %d partitions of %s", self.topic, partitions, self.raw_topic)

    def _make_reader(self, partitions: int) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **aiokafka_options(self._settings),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=min(1 << 20, max(64 << 10, FETCH_BYTES // partitions)),
        )

    async def _resume(self, topic_id: str, raw: list[TopicPartition]) -> Progress:
        """The progress to resume from. LossError where it does not fit the raw topic, unless a loss is accepted.

        topic_id: of the raw topic. raw: its partitions.
        """
        keyed = [TopicPartition(self.topic, number) for number in range(self._settings.topics.partitions)]
        async with reading(self._settings) as consumer:
            stored = await read_newest_progress(consumer, self._progress_topic)
            starts, log_ends = await consumer.beginning_offsets(raw), await consumer.end_offsets(raw)
            written = any((await consumer.end_offsets(keyed)).values())
        progress, losses = repartition.resume(
            stored, self.raw_topic, topic_id, [starts[tp] for tp in raw], [log_ends[tp] for tp in raw], written=written
        )
        for loss in losses:
            refuse_loss(self._accept_loss, loss, "goes on")
        return progress

    async def _process(self, processor: RepartitionProcessor, batches: Mapping[Any, RecordBatch]) -> None:
        """Repartition fetches; commit when it is time, and check whether the raw topic has more partitions."""
        now = int(time.time() * 1000)
        for batch in batches.values():
            expected = processor.position(batch.partition)
            if not processor.add(batch, now):
                raise LossError(f"{self.raw_topic}/{batch.partition}: fetched {batch.first}, expected {expected}")
        processor.run({number: end for (_, number), end in ends(self._reader).items()})
        monotonic = time.monotonic()
        if processor.pending >= MAX_PENDING or monotonic - self._last_commit >= self._settings.state.flush_interval:
            await self._commit(processor)
        if monotonic - self._last_partition_check >= PARTITION_CHECK_INTERVAL:
            self._last_partition_check = monotonic
            await self._check_partitions(processor)

    async def _check_partitions(self, processor: RepartitionProcessor) -> None:
        try:
            _, partitions = await asyncio.to_thread(describe_topic, self._settings, self.raw_topic)
        except BrokerError as error:  # a slow broker; the next check asks again
            log.warning("%s: the number of partitions was not checked: %s", self.raw_topic, error)
            return
        if partitions != len(processor.progress.logs):
            await self._commit(processor)
            await self._release()  # the next poll takes over again, with all partitions

    async def _commit(self, processor: RepartitionProcessor) -> None:
        """Write what has been repartitioned since the last commit, in one transaction."""
        self._last_commit = time.monotonic()
        cut = processor.cut(int(time.time() * 1000))
        producer = self._producer
        assert producer is not None
        if cut is not None:
            async with transaction(producer, self._settings, f"{self.topic}, repartitioned") as sent:
                for (topic, partition), outputs in cut.outputs.items():
                    sent += await send_records(producer, topic, partition, outputs.records, outputs.stamps)
                sent += await send_records(producer, self._progress_topic, 0, [(PROGRESS_KEY, cut.progress, [])])
            self._count(processor.counts | {f"rekeyed:{self.topic}": cut.records})
            processor.counts.clear()
        if processor.progress.stopped:
            raise RejectsError(f"{self.raw_topic}: {processor.progress.stopped}")

    async def _release(self) -> None:
        """Stop the clients. The next owner repeats what was not committed."""
        self._processor = None
        clients, self._reader, self._producer = (self._reader, self._producer), None, None
        for client in clients:
            if client is not None:
                await client.stop()

    # -- every worker -------------------------------------------------------------------------------------------

    async def watch_lag(self) -> None:
        """Measure how far the service's owner is, until cancelled.

        The owner is behind until its progress has passed the ends of the raw topic that the measurement before saw,
        twice in a row: after the second time what it committed can be read. So under steady traffic an owner that keeps
        up does not count as behind.
        """
        progress, previous_ends, covered = None, None, False
        async with reading(self._settings) as consumer:
            progress = await read_newest_progress(consumer, self._progress_topic)
            while True:
                try:
                    for records in (await consumer.getmany(timeout_ms=0)).values():
                        progress = _loads(records[-1].value)
                    if progress is not None:
                        raw = [TopicPartition(self.raw_topic, number) for number in range(len(progress.logs))]
                        answer = await asyncio.wait_for(consumer.end_offsets(raw), END_OFFSETS_TIMEOUT)
                        offsets, log_ends = [source.offset for source in progress.logs], [answer[tp] for tp in raw]
                        self.lag = sum(max(0, end - offset) for end, offset in zip(log_ends, offsets, strict=True))
                        was_covered = covered
                        covered = previous_ends is not None and _covers(offsets, previous_ends)
                        self.behind = not (covered and was_covered)
                        previous_ends = log_ends
                except (KafkaError, TimeoutError) as error:
                    log.warning("%s: the lag of repartitioning is not known: %r", self.topic, error)
                    self.behind, covered = True, False
                await asyncio.sleep(WATCH_INTERVAL)


def _covers(offsets: list[int], log_ends: list[int]) -> bool:
    """Whether all offsets have reached the ends. There may be more offsets than ends: new partitions."""
    return all(offset >= end for offset, end in zip(offsets, log_ends, strict=False))


async def read_newest_progress(consumer: AIOKafkaConsumer, topic: str) -> Progress | None:
    """The newest progress in a progress topic; None where there is none. The consumer is left at the topic's end."""
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    log_start = (await consumer.beginning_offsets([partition]))[partition]
    log_end = (await consumer.end_offsets([partition]))[partition]
    newest: bytes | None = None
    # The end of the log first, then all of it: transaction markers may fill its end.
    for start in sorted({log_start, max(log_start, log_end - TAIL_RECORDS)}, reverse=True):
        async for record in to_end(consumer, {partition: start}):
            newest = record.value
        if newest is not None:
            break
    return None if newest is None else _loads(newest)


def _loads(data: bytes) -> Progress:
    """StateError where the bytes are no progress of this version."""
    try:
        return repartition.loads(data)
    except ValueError as error:
        raise StateError(f"{error}") from error
