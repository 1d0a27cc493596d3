"""The batch transport: under Faust, one message is one fetch of one topic partition.

Faust's own transport costs two asyncio tasks an event; with a whole fetch as the message everything around it
(agents, groups, rebalances) stays as it is and the cost an event falls by a factor of forty.
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
from streams.kafka.fetch import FETCH_WAIT_MS, drain, ends, forget_end, positions, unpack
from streams.runtime.fatal_errors import DENIED, denied, fail
from streams.schemas.record_batch import RecordBatch

log = logging.getLogger(__name__)


class BatchSchema(Schema):
    """Passes a batch through: bytes are decoded by the task, not by Faust."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


class NotNow(Container[tuple[str, int]]):
    """The source partitions that are not to be drained now: a task has enough of them, or no assignment reads them."""

    def __init__(self, consumer: BatchConsumer) -> None:
        self._consumer = consumer

    def __contains__(self, at: object) -> bool:
        return at in self._consumer.held or at not in self._consumer.expected


class BatchThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread, unpacking the fetcher's record batches into lists."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # the driver sets it in its own exactly-once mode only
        # One request a broker is under way at a time: one that waits at the end of a source (the driver says for
        # 1.5 s) keeps the others waiting. New records end the wait, so it costs no latency.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        """Coordination waits until its user has taken an error, and the driver takes none: it ends the process here."""
        await super().on_start()
        if coordinator := self._consumer._coordinator:
            coordinator._push_error_to_user = _coordination_failed
            coordinator._coordination_task.add_done_callback(_coordination_ended)

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: Any = None, max_records: Any = None
    ) -> dict[Any, RecordBatch]:
        if not self.consumer.flow_active:
            return {}
        try:
            return await drain(
                consumer,
                NotNow(self.consumer),
                timeout=timeout or 0.0,
                limit=max_records or 1 << 30,
                active=active_partitions,
                unpack=self._unpacked,
            )
        except DENIED as error:
            fail(error)
            raise

    def _unpacked(self, tp: Any, result: Any, limit: int) -> RecordBatch | None:
        """unpack; a batch that cannot be read ends the process, for Faust would go on asking for it."""
        try:
            return unpack(tp, result, limit)
        except Exception as error:
            at = result._partition_records.next_fetch_offset
            where = f"{tp.topic}/{tp.partition}: the batch at offset {at} cannot be read: {error!r}"
            fail(BrokerError(where))
            raise

    async def commit_positions(self, positions: Mapping[tuple[str, int], int]) -> None:
        await self.call_thread(self._commit_positions, positions)

    async def _commit_positions(self, positions: Mapping[tuple[str, int], int]) -> None:
        consumer = self._ensure_consumer()
        mine = {tp: positions[tp.topic, tp.partition] for tp in consumer.assignment() if tuple(tp) in positions}
        try:
            if mine:
                await consumer.commit(mine)
        except (KafkaError, IllegalStateError) as error:  # a rebalance, a slow broker: the next one tells more
            log.info("the group's offsets were not committed: %r", error)

    def ends(self) -> dict[tuple[str, int], int | None]:
        """Last stable offset of each assigned partition, None where no fetch has told it yet."""
        return {} if self._consumer is None else ends(self._consumer)

    def forget_end(self, topic: str, partition: int) -> None:
        """The end of a partition is not known until the next fetch tells it."""
        if self._consumer is not None:
            forget_end(self._consumer, topic, partition)

    def positions(self) -> dict[tuple[str, int], int | None]:
        """Where each assigned partition is fetched from next."""
        return {} if self._consumer is None else positions(self._consumer)


async def _coordination_failed(error: BaseException) -> None:
    fail(denied(error) or BrokerError(f"the workers' group: {error}"))


def _coordination_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        fail(denied(error) or BrokerError(f"the workers' group: {error}"))


class BatchConsumer(driver.Consumer):
    """One message a fetch; reading resumes where the tasks say, and no hole is passed over."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.held: set[tuple[str, int]] = set()
        self.assignment_number = 0  # the assignment that the sources are read for
        self.expected: dict[tuple[str, int], int] = {}  # next offset of each source partition that is read
        self.seeks: Counter[str] = Counter()  # continuity seeks, by topic
        self._again: dict[tuple[str, int], tuple[int, int]] = {}  # what the last seek of a partition was for
        self._astray: dict[tuple[str, int], tuple[int, int]] = {}  # where fetches went on, and where they should have
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    def ends(self) -> dict[tuple[str, int], int | None]:
        """Last stable offset of each assigned partition, None where no fetch has told it since reading began."""
        return {at: end if at in self.expected else None for at, end in self._thread.ends().items()}

    async def commit_positions(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Tell the group's offsets to whoever watches lag; reading never starts from them."""
        if not self.should_stop:  # at a stop the thread's loop closes, and the group is left anyway
            await self._thread.commit_positions(positions)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self.expected.clear()  # until the next assignment's read() no source is read
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Faust's seek to the group's commit, which plays no part here: see read()."""

    async def read(self, assignment: int, positions: Mapping[tuple[str, int], int]) -> None:
        """Read the sources of an assignment, each from an offset on; before this call none of them is read."""
        self.assignment_number = assignment
        for left in (self.expected, self._again, self._astray):  # of the assignment before
            left.clear()
        self.resume_partitions({TP(topic, partition) for topic, partition in positions})
        for (topic, partition), offset in positions.items():
            await self.read_from(topic, partition, offset)

    async def read_from(self, topic: str, partition: int, offset: int) -> None:
        """Read a source partition from an offset on.

        The end that is known was told by a fetch from before the pause for the recovery: records have come since, and a
        source that stands at that end is not at its own.
        """
        if self.should_stop:  # the thread's loop closes
            return
        self._thread.forget_end(topic, partition)
        self.expected[topic, partition] = offset
        try:
            await self._thread.seek_wait({self._new_topicpartition(topic, partition): offset})
        except IllegalStateError:  # taken away meanwhile: the callbacks of that rebalance are on their way
            self.expected.pop((topic, partition), None)
            log.info("%s/%d: not read, a rebalance has taken it", topic, partition)

    async def read_again(self, topic: str, partition: int, *, found: int, expected: int) -> None:
        """The guard: a fetch does not go on where the one before ended."""
        self.seeks[topic] += 1
        if self._again.get((topic, partition)) == (found, expected):  # also after a seek: it is not there
            raise LossError(
                f"{topic}/{partition}: offset {expected} is not to be had, the log goes on at {found}: records between "
                "are gone; --accept-loss goes on after a restart"
            )
        self._again[topic, partition] = found, expected
        log.warning("%s/%d: fetched %d, expected %d: reading again", topic, partition, found, expected)
        await self.read_from(topic, partition, expected)

    async def look(self) -> None:
        """The guard where no fetch comes: of a log that no longer holds what is expected, nor anything behind it."""
        at = self._thread.positions()
        astray = {
            where: (found, expected)
            for where, expected in list(self.expected.items())
            if (found := at.get(where)) is not None and found != expected
        }
        before, self._astray = self._astray, astray
        for where, (found, expected) in astray.items():  # once is nothing: a fetch is being handed over
            if before.get(where) == (found, expected):
                await self.read_again(*where, found=found, expected=expected)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        records, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if records is None or self.should_stop:
            return
        for at, batch in records.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:
                break
            tp = TP(at.topic, at.partition)
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            expected = self.expected.get((at.topic, at.partition))
            if expected is None:
                continue
            if batch.first != expected:
                try:
                    await self.read_again(at.topic, at.partition, found=batch.first, expected=expected)
                except LossError as error:
                    fail(error)
                continue
            self._again.pop((at.topic, at.partition), None)
            self.expected[at.topic, at.partition] = batch.last + 1
            # the drain loop must see neither a gap nor a drop
            self._read_offset[tp] = batch.last - 1 if batch.last else None
            yield tp, self._to_message(tp, batch)

    def _to_message(self, tp: TP, batch: RecordBatch) -> ConsumerMessage:
        stamp = batch.timestamps[-1] / 1000.0 if batch.timestamps else 0.0
        value = self.assignment_number, batch
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            batch.last,
            stamp,
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
    """Faust's, with the consumer of batches."""

    Consumer = BatchConsumer
