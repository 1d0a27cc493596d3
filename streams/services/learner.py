"""The learner: whoever owns the one partition of `training-rows` learns and publishes to `models`.

Rows are applied in log order. A successor resumes from the newest version, which carries the state to go on
from and the offset it had learned up to: nothing is learned twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from online_models.learner.control_messages import Answer, ControlMessage
from online_models.learner.learner import Learner, LearnerParams
from online_models.training_rows import SAMPLE_ROW, TrainingRows
from online_models.version import Version, dumps
from state import features
from streams.config.settings import Settings
from streams.errors import BrokerError, TransactionError
from streams.kafka.client_options import aiokafka_options
from streams.processing import lineage_records, training_records
from streams.processing.cloudevents import encoder, rfc3339
from streams.services.model_feed import read_newest
from streams.services.ownership import Ownership, member

log = logging.getLogger(__name__)
KEEP = 1_000  # newest versions kept in `models`; older ones get a tombstone


def params(settings: Settings) -> LearnerParams:
    chosen = settings.learner
    return LearnerParams(
        k_least=chosen.k_least,
        k_most=chosen.k_most,
        first_rows=chosen.first_rows,
        every_rows=chosen.every_rows,
        every_ms=int(chosen.every * 1000),
        window=chosen.window,
        seed=chosen.seed,
        ratios=features.R,
        names=list(features.NAMES),
        hysteresis=chosen.hysteresis,
        memory=list(features.MEMORY),
        half_life=chosen.half_life,
        clip=chosen.clip,
        floor=chosen.floor,
        segmenter=chosen.segmenter,
    )


class LearnerService:
    """Member of the learners' group; one of all workers gets the partition."""

    def __init__(self, settings: Settings, count: Callable[[Mapping[str, int]], None] = lambda _: None) -> None:
        self._settings, self._count = settings, count
        self._topic = settings.topic("training_rows")
        self._models = settings.topic("models")
        self._lineage = settings.topic("segment_lineage")
        self._results = settings.topic("commands_results")
        self._columns = training_records.layout(features.NAMES)
        self._width = 2 * features.R + len(features.PLAIN)
        self._ownership = Ownership()
        self._held = 0  # generation of the ownership under which the learner stands
        self._learner: Learner | None = None
        self._producer: AIOKafkaProducer | None = None

    @property
    def owner(self) -> bool:
        return self._learner is not None

    async def run(self) -> None:
        """Learn until cancelled; TransactionError where a version could not be published."""
        consumer = member(self._settings, "learner")
        consumer.subscribe([self._topic], listener=self._ownership)
        await consumer.start()
        try:
            while True:
                await self._tend(consumer)
        finally:
            await consumer.stop()
            await self._let_go()

    async def _tend(self, consumer: AIOKafkaConsumer) -> None:
        mine = self._ownership
        if self._held != mine.generation:  # a rebalance put the position back, also where the partition stayed
            await self._let_go()
            self._held = mine.generation
        if not mine.owned:
            await consumer.getmany(timeout_ms=200)  # keeps the membership alive
            return
        at = TopicPartition(self._topic, 0)
        async with mine.lock:
            if self._held != mine.generation:
                return
            if self._learner is None:
                await self._take_over(consumer, at)
        batches = await consumer.getmany(at, timeout_ms=200, max_records=2000)
        async with mine.lock:
            if self._held == mine.generation:
                await self._learn(batches)

    async def _learn(self, batches: Mapping[TopicPartition, list[Any]]) -> None:
        for records in batches.values():
            keys, values, offsets = ([getattr(r, name) for r in records] for name in ("key", "value", "offset"))
            for piece in training_records.pieces(keys, values, offsets, self._columns, self._width):
                assert self._learner is not None
                before = self._learner.version
                if isinstance(piece, TrainingRows):
                    self._count({"learned": int(np.count_nonzero(piece.kind == SAMPLE_ROW))})
                    for version in await asyncio.to_thread(self._learner.learn, piece):
                        await self._publish(version, before)
                        before = version
                else:
                    await self._apply_control(*piece, before)

    async def _apply_control(self, offset: int, message: ControlMessage | str, before: Version | None) -> None:
        """Carry out a control message, and answer it in the transaction of the version that it leads to."""
        if isinstance(message, str):
            log.warning("learner: the control message at offset %d of %s is left out: %s", offset, self._topic, message)
            return
        assert self._learner is not None
        version, answer = await asyncio.to_thread(self._learner.apply_control, message, offset)
        log.info("learner: control message %s at offset %d: %s", message.action, offset, answer.why)
        await self._publish(version, before, answer)

    async def _take_over(self, consumer: AIOKafkaConsumer, at: TopicPartition) -> None:
        """Fence a former owner, then go on where the newest version stands."""
        self._producer = AIOKafkaProducer(
            **aiokafka_options(self._settings),
            max_request_size=16 << 20,
            transactional_id=f"{self._settings.prefix}{self._settings.application}-learner-0",
        )
        try:
            await self._producer.start()
        except KafkaError as error:
            raise BrokerError(f"the learner's producer did not start: {error!r}") from error
        newest = await read_newest(self._settings)
        chosen = params(self._settings)
        # in a thread: the first learner of a process imports River, which takes seconds on a busy machine
        make = (Learner.start, chosen) if newest is None else (Learner.resume, newest, chosen)
        self._learner = await asyncio.to_thread(*make)
        start = 0 if newest is None else newest.learned_to
        first = (await consumer.beginning_offsets([at]))[at]
        consumer.seek(at, max(start, first))
        log.info("learner: owner, from offset %d", max(start, first))

    async def _publish(self, version: Version | None, before: Version | None, answer: Answer | None = None) -> None:
        """The version with the state to go on from; the one before keeps only what assigning needs: many may be kept,
        for partitions that stand at them. With it what became of segments, and the answer to a control message."""
        assert self._producer is not None
        records: list[tuple[str, bytes, bytes | None]] = []
        if version is not None:
            records.append((self._models, b"%d" % version.number, dumps(version)))
            if before is not None:
                records.append((self._models, b"%d" % before.number, dumps(msgspec.structs.replace(before, state=b""))))
            if version.number > KEEP:
                records.append((self._models, b"%d" % (version.number - KEEP), None))
            records += [(self._lineage, key, value) for key, value in lineage_records.documents(version)]
        if answer is not None:
            receipt = encoder("receipt")(f"{self._topic}-0-{answer.offset}", answer.request_id, _now(), answer)
            records.append((self._results, answer.request_id.encode(), receipt))
        try:
            async with self._producer.transaction():
                for topic, key, data in records:
                    await self._producer.send_and_wait(topic, value=data, key=key, partition=0)
        except KafkaError as error:
            what = f"model version {version.number}" if version else "the answer to a control message"
            raise TransactionError(f"{what} could not be published: {error!r}") from error
        if version is not None:
            self._count(Counter(f"lineage:{one.event}" for one in version.lineage))

    async def _let_go(self) -> None:
        self._learner = None
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()


def _now() -> str:
    return rfc3339(np.array([int(time.time() * 1000)]))[0]
