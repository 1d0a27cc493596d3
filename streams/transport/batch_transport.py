"""A Faust transport in which one message is one fetch of one topic partition.

Faust's own transport creates two asyncio tasks per event. With a whole fetch as the message, everything around it
(agents, groups, rebalances) stays as it is, and the cost per event falls by a factor of forty.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Container, Mapping
from typing import Any

from aiokafka.errors import IllegalStateError, KafkaError
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.errors import BrokerError, LossError
from streams.kafka.fetch import FETCH_WAIT_MS, drain, end, forget_end, positions, unpack
from streams.runtime.fatal_errors import AUTHORIZATION_ERRORS, authorization_error, exit_with_error
from streams.schemas.record_batch import RecordBatch

log = logging.getLogger(__name__)
NO_LIMIT = 1 << 30  # records


class BatchSchema(Schema):
    """Passes a batch through: the task decodes the bytes, not Faust."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


class UnreadSources(Container[tuple[str, int]]):
    """The source partitions whose fetches stay in the fetcher: paused by a task, or read for no assignment."""

    def __init__(self, consumer: BatchConsumer) -> None:
        self._consumer = consumer

    def __contains__(self, source: object) -> bool:
        return source in self._consumer.paused or source not in self._consumer.next_offsets


class BatchThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread; it takes record batches from aiokafka's fetcher instead of single records."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # Faust sets it only in its own exactly-once mode
        # aiokafka sends one request at a time to a broker. A request that waits at the end of one source (1.5 s with
        # Faust's setting) delays the fetches of the others. New records end the wait, so a short one adds no latency.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        """End the process on an error of the group's coordinator.

        aiokafka's coordinator stops until its user has taken the error, and Faust never takes it: the worker would hang
        without a partition.
        """
        await super().on_start()
        if coordinator := self._consumer._coordinator:
            coordinator._push_error_to_user = _exit_on_coordination_error
            coordinator._coordination_task.add_done_callback(_exit_if_coordination_failed)

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: Any = None, max_records: Any = None
    ) -> dict[Any, RecordBatch]:
        if not self.consumer.flow_active:
            return {}
        try:
            return await drain(
                consumer,
                UnreadSources(self.consumer),
                timeout=timeout or 0.0,
                limit=max_records or NO_LIMIT,
                active=active_partitions,
                unpack=self._unpack,
            )
        except AUTHORIZATION_ERRORS as error:
            exit_with_error(error)
            raise

    def _unpack(self, tp: Any, result: Any, limit: int) -> RecordBatch | None:
        """unpack(). A batch that cannot be read ends the process, because Faust would request it again for ever."""
        try:
            return unpack(tp, result, limit)
        except Exception as error:
            offset = result._partition_records.next_fetch_offset
            exit_with_error(
                BrokerError(f"{tp.topic}/{tp.partition}: the batch at offset {offset} cannot be read: {error!r}")
            )
            raise

    async def commit_offsets(self, offsets: Mapping[tuple[str, int], int]) -> None:
        await self.call_thread(self._commit_offsets, offsets)

    async def _commit_offsets(self, offsets: Mapping[tuple[str, int], int]) -> None:
        consumer = self._ensure_consumer()
        assigned = {tp: offsets[tp.topic, tp.partition] for tp in consumer.assignment() if tuple(tp) in offsets}
        try:
            if assigned:
                await consumer.commit(assigned)
        except (KafkaError, IllegalStateError) as error:  # a rebalance or a slow broker: a later commit includes these
            log.info("the group's offsets were not committed: %r", error)

    def end_offset(self, topic: str, partition: int) -> int | None:
        """Last stable offset of a partition; None before the first fetch, and where it is not assigned."""
        return None if self._consumer is None else end(self._consumer, topic, partition)

    def forget_end(self, topic: str, partition: int) -> None:
        """Treat the end of a partition as unknown until its next fetch."""
        if self._consumer is not None:
            forget_end(self._consumer, topic, partition)

    def positions(self) -> dict[tuple[str, int], int | None]:
        """The offset from which each assigned partition is fetched next."""
        return {} if self._consumer is None else positions(self._consumer)


async def _exit_on_coordination_error(error: BaseException) -> None:
    exit_with_error(authorization_error(error) or BrokerError(f"the workers' consumer group failed: {error}"))


def _exit_if_coordination_failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        exit_with_error(authorization_error(error) or BrokerError(f"the workers' consumer group failed: {error}"))


class BatchConsumer(driver.Consumer):
    """Yields one message per fetch. Reading starts from the offsets of the tasks, and a gap is read again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.paused: set[tuple[str, int]] = set()  # sources of which a task has enough queued
        self.assignment_number = 0  # the assignment that the sources are read for
        self.next_offsets: dict[tuple[str, int], int] = {}  # expected next, of each source partition that is read
        self.seek_counts: Counter[str] = Counter()  # seeks back to a gap, by topic
        # (found, expected) of the last gap of each partition, until a fetch continues at `expected`
        self._gaps: dict[tuple[str, int], tuple[int, int]] = {}
        # (position, expected) of the partitions whose position was wrong at the last check
        self._wrong_positions: dict[tuple[str, int], tuple[int, int]] = {}
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    def end_offset(self, topic: str, partition: int) -> int | None:
        """Last stable offset of a partition; None before the first fetch since reading started, and where it is not
        assigned."""
        return self._thread.end_offset(topic, partition) if (topic, partition) in self.next_offsets else None

    async def commit_offsets(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Commit to the group, for tools that show its lag. Reading never starts from these offsets."""
        if not self.should_stop:  # when the consumer stops, the loop of its thread closes
            await self._thread.commit_offsets(offsets)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.next_offsets.clear()  # no source is read until the next assignment calls start_reading()
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Faust would seek to the group's committed offsets here; start_reading() seeks instead."""

    async def start_reading(self, assignment: int, offsets: Mapping[tuple[str, int], int]) -> None:
        """Read the sources of an assignment, each from an offset on; none of them is read before this call."""
        self.assignment_number = assignment
        for state in (self.next_offsets, self._gaps, self._wrong_positions):  # of the assignment before
            state.clear()
        self.resume_partitions({TP(topic, partition) for topic, partition in offsets})
        for (topic, partition), offset in offsets.items():
            await self.read_from(topic, partition, offset)

    async def read_from(self, topic: str, partition: int, offset: int) -> None:
        """Read a source partition from an offset on.

        Forgets the known end of the partition. It comes from a fetch before the pause for the recovery, and records may
        have arrived since: a source at that end is not necessarily at its current end.
        """
        if self.should_stop:  # the loop of the consumer's thread closes
            return
        self._thread.forget_end(topic, partition)
        self.next_offsets[topic, partition] = offset
        try:
            await self._thread.seek_wait({self._new_topicpartition(topic, partition): offset})
        except IllegalStateError:  # a rebalance has revoked the partition; its callbacks follow
            self.next_offsets.pop((topic, partition), None)
            log.info("%s/%d: not read, a rebalance has revoked it", topic, partition)

    async def read_again(self, topic: str, partition: int, *, found: int, expected: int) -> None:
        """Seek back to a gap: a fetch started at offset `found` instead of `expected`.

        LossError where the fetch after a seek starts at `found` again: the records between do not exist any more.
        """
        self.seek_counts[topic] += 1
        if self._gaps.get((topic, partition)) == (found, expected):
            raise LossError(
                f"{topic}/{partition}: offset {expected} is not available, the log continues at {found}: records "
                "between are gone; --accept-loss goes on after a restart"
            )
        self._gaps[topic, partition] = found, expected
        log.warning("%s/%d: fetched %d, expected %d: reading again", topic, partition, found, expected)
        await self.read_from(topic, partition, expected)

    async def check_positions(self) -> None:
        """Find partitions whose fetch position is wrong although no fetch arrives.

        This happens where a log holds neither the expected offset nor any record behind it: the client then resets the
        position, and getmany() sees nothing.
        """
        current = self._thread.positions()
        wrong = {
            source: (position, expected)
            for source, expected in list(self.next_offsets.items())
            if (position := current.get(source)) is not None and position != expected
        }
        previous, self._wrong_positions = self._wrong_positions, wrong
        for source, (position, expected) in wrong.items():
            # Once is normal: the position moves a little before getmany() yields the fetch.
            if previous.get(source) == (position, expected):
                await self.read_again(*source, found=position, expected=expected)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        for source, batch in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break  # a rebalance has begun since the fetch
            tp = TP(source.topic, source.partition)
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            expected = self.next_offsets.get((source.topic, source.partition))
            if expected is None:
                continue
            if batch.first != expected:
                try:
                    await self.read_again(source.topic, source.partition, found=batch.first, expected=expected)
                except LossError as error:
                    exit_with_error(error)
                continue
            self._gaps.pop((source.topic, source.partition), None)
            self.next_offsets[source.topic, source.partition] = batch.last + 1
            # Faust compares a message's offset with the one before: it must see neither a gap nor a repeated offset.
            self._read_offset[tp] = batch.last - 1 if batch.last else None
            yield tp, self._to_message(tp, batch)

    def _to_message(self, tp: TP, batch: RecordBatch) -> ConsumerMessage:
        timestamp = batch.timestamps[-1] / 1000.0 if batch.timestamps else 0.0
        value = self.assignment_number, batch
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            batch.last,
            timestamp,
            0,
            [],
            None,
            value,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )


class Transport(driver.Transport):
    """Faust's aiokafka transport with the consumer of batches."""

    Consumer = BatchConsumer
