"""The learner service: the owner of the only partition of `training-rows` learns and publishes to `models`.

Rows are applied in log order. The newest version holds the learner's state and the offset up to which it has learned.
The next owner resumes from it, so no row is learned twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from online_models.learner.control_messages import Answer, ControlMessage
from online_models.training_rows import SAMPLE_ROW, TrainingRows
from online_models.version import Version, dumps
from state import features
from streams.config.settings import Settings
from streams.errors import BrokerError, TransactionError
from streams.kafka.client_options import aiokafka_options
from streams.processing.outputs import lineage_records, training_records
from streams.processing.outputs.cloudevents import encoder, rfc3339
from streams.services.model_feed import read_newest
from streams.services.ownership import Ownership, group_member

if TYPE_CHECKING:
    from online_models.learner.learner import Learner, LearnerParams

log = logging.getLogger(__name__)
KEPT_VERSIONS = 1_000  # newest versions kept in `models`; older ones get a tombstone
POLL_MS = 200
MAX_POLL_RECORDS = 2_000
MAX_REQUEST_BYTES = 16 << 20  # a version with the learner's state is one record


def params(settings: Settings) -> LearnerParams:
    """The learner's parameters from the settings."""
    from online_models.learner.learner import LearnerParams  # imports River; one worker of a deployment needs it

    learner = settings.learner
    return LearnerParams(
        k_least=learner.k_least,
        k_most=learner.k_most,
        first_rows=learner.first_rows,
        every_rows=learner.every_rows,
        every_ms=int(learner.every * 1000),
        window=learner.window,
        seed=learner.seed,
        ratios=features.R,
        names=list(features.NAMES),
        hysteresis=learner.hysteresis,
        memory=list(features.MEMORY),
        half_life=learner.half_life,
        clip=learner.clip,
        floor=learner.floor,
        segmenter=learner.segmenter,
    )


def _make_learner(newest: Version | None, settings: Settings) -> Learner:
    """A learner that resumes from the newest version, or begins where there is none."""
    from online_models.learner.learner import Learner

    return Learner.start(params(settings)) if newest is None else Learner.resume(newest, params(settings))


class LearnerService:
    """A member of the learners' group. Every worker runs one; the owner of the partition learns."""

    def __init__(self, settings: Settings, count: Callable[[Mapping[str, int]], None] = lambda _: None) -> None:
        """count: adds to the worker's metrics."""
        self._settings, self._count = settings, count
        self._topic = settings.topic("training_rows")
        self._models = settings.topic("models")
        self._lineage = settings.topic("segment_lineage")
        self._results = settings.topic("commands_results")
        self._columns = training_records.layout(features.NAMES)
        self._width = 2 * features.R + len(features.PLAIN)
        self._ownership = Ownership()
        self._generation = 0  # of the ownership under which the learner was made
        self._learner: Learner | None = None
        self._producer: AIOKafkaProducer | None = None

    @property
    def owner(self) -> bool:
        return self._learner is not None

    async def run(self) -> None:
        """Learn until cancelled. TransactionError where a version could not be published."""
        consumer = group_member(self._settings, "learner")
        consumer.subscribe([self._topic], listener=self._ownership)
        await consumer.start()
        try:
            while True:
                await self._poll(consumer)
        finally:
            await consumer.stop()
            await self._release()

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        """Learn from one poll's records; take over before the first one.

        The lock is not held during the poll, because a rebalance would wait for it. So after each poll the generation
        tells whether the partition was revoked meanwhile: its records are then dropped.
        """
        ownership = self._ownership
        if self._generation != ownership.generation:
            # A rebalance resets the consumer's position, even where the partition stays.
            await self._release()
            self._generation = ownership.generation
        if not ownership.owned:
            await consumer.getmany(timeout_ms=POLL_MS)  # a member that does not poll is removed from the group
            return
        partition = TopicPartition(self._topic, 0)
        async with ownership.lock:
            if self._generation != ownership.generation:
                return
            if self._learner is None:
                await self._take_over(consumer, partition)
        batches = await consumer.getmany(partition, timeout_ms=POLL_MS, max_records=MAX_POLL_RECORDS)
        async with ownership.lock:
            if self._generation == ownership.generation:
                await self._learn(batches)

    async def _learn(self, batches: Mapping[TopicPartition, list[Any]]) -> None:
        for records in batches.values():
            keys, values, offsets = (
                [getattr(record, name) for record in records] for name in ("key", "value", "offset")
            )
            for piece in training_records.pieces(keys, values, offsets, self._columns, self._width):
                assert self._learner is not None
                previous = self._learner.version
                if isinstance(piece, TrainingRows):
                    self._count({"learned": int(np.count_nonzero(piece.kind == SAMPLE_ROW))})
                    for version in await asyncio.to_thread(self._learner.learn, piece):
                        await self._publish(version, previous)
                        previous = version
                else:
                    await self._apply_control(*piece, previous)

    async def _apply_control(self, offset: int, message: ControlMessage | str, previous: Version | None) -> None:
        """Apply a control message; publish its answer in the transaction of the version that it leads to."""
        if isinstance(message, str):
            log.warning("learner: the control message at offset %d of %s is skipped: %s", offset, self._topic, message)
            return
        assert self._learner is not None
        version, answer = await asyncio.to_thread(self._learner.apply_control, message, offset)
        log.info("learner: control message %s at offset %d: %s", message.action, offset, answer.why)
        await self._publish(version, previous, answer)

    async def _take_over(self, consumer: AIOKafkaConsumer, partition: TopicPartition) -> None:
        """Fence off a former owner, then resume from the newest version.

        The version is read after the fencing, so the former owner cannot publish a newer one.
        """
        self._producer = AIOKafkaProducer(
            **aiokafka_options(self._settings),
            max_request_size=MAX_REQUEST_BYTES,
            transactional_id=f"{self._settings.prefix}{self._settings.application}-learner-0",
        )
        try:
            await self._producer.start()
        except KafkaError as error:
            raise BrokerError(f"the learner's producer did not start: {error!r}") from error
        newest = await read_newest(self._settings)
        # In a thread: the first learner of a process imports River, which takes seconds on a busy machine.
        self._learner = await asyncio.to_thread(_make_learner, newest, self._settings)
        learned_to = 0 if newest is None else newest.learned_to
        log_start = (await consumer.beginning_offsets([partition]))[partition]
        consumer.seek(partition, max(learned_to, log_start))
        log.info("learner: owner, from offset %d", max(learned_to, log_start))

    async def _publish(self, version: Version | None, previous: Version | None, answer: Answer | None = None) -> None:
        """Publish a version with the learner's state, its lineage, and the answer to a control message.

        The previous version is published again without the state: partitions may still use it to assign segments, and
        many versions are kept.
        """
        assert self._producer is not None
        records: list[tuple[str, bytes, bytes | None]] = []
        if version is not None:
            records.append((self._models, b"%d" % version.number, dumps(version)))
            if previous is not None:
                stateless = msgspec.structs.replace(previous, state=b"")
                records.append((self._models, b"%d" % previous.number, dumps(stateless)))
            if version.number > KEPT_VERSIONS:
                records.append((self._models, b"%d" % (version.number - KEPT_VERSIONS), None))
            records += [(self._lineage, key, value) for key, value in lineage_records.documents(version)]
        if answer is not None:
            receipt = encoder("receipt")(f"{self._topic}-0-{answer.offset}", answer.request_id, _now(), answer)
            records.append((self._results, answer.request_id.encode(), receipt))
        try:
            async with self._producer.transaction():
                for topic, key, value in records:
                    await self._producer.send_and_wait(topic, value=value, key=key, partition=0)
        except KafkaError as error:
            subject = f"model version {version.number}" if version else "the answer to a control message"
            raise TransactionError(f"{subject} could not be published: {error!r}") from error
        if version is not None:
            self._count(Counter(f"lineage:{change.event}" for change in version.lineage))

    async def _release(self) -> None:
        """Drop the learner and its producer; the next owner, or the next poll, resumes from the newest version."""
        self._learner = None
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()


def _now() -> str:
    return rfc3339(np.array([int(time.time() * 1000)]))[0]
