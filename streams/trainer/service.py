"""`shoal train`: rows of `training-rows` into a window on the disk, now and then an encoder, as a control message.

A process of its own. One of all trainers has the partition (a group of their own); nothing starts from the group's
offsets, each goes on from its own window. A candidate is a record of `training-rows`, so that the learner meets it at
the same place in every rebuild.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from online_models.distances import Floats
from online_models.encoder import retraining
from online_models.encoder.drift import Drift
from online_models.encoder.encoder import Encoder, loads
from online_models.encoder.retraining import LastTraining
from online_models.holdout import in_holdout
from online_models.learner import control_messages
from online_models.learner.control_messages import ControlMessage
from online_models.training_rows import SAMPLE_ROW, TrainingRows
from state import features
from streams.config.settings import Settings
from streams.errors import DataError, TransactionError
from streams.kafka.reader import reading
from streams.kafka.topics import describe_topic
from streams.operations import promotion
from streams.processing import training_records
from streams.runtime.publisher import transactional
from streams.services.ownership import Ownership, member
from streams.trainer.plan import plan, told
from streams.trainer.row_ring import RowWindow

if TYPE_CHECKING:
    from online_models.encoder.autoencoder import Epoch, Report

log = logging.getLogger(__name__)
WIDTH = 2 * features.R + len(features.PLAIN)
CHUNK = 5_000  # records at a time
LOOK = 2.0  # seconds between two looks at whether to train
FLUSH = 10.0  # seconds between two writes of the window's state
PRIMED = 5_000  # rows, the newest that were held out, by which a drift is judged at first
RESUMED = 100_000  # rows, the newest since the last training, that are looked at after a start
ENCODER = "encoder.safetensors"  # in the window's folder: the last one trained
Say = Callable[[str], None]


class Stopped(Exception):
    """A training was given up, for the process is to end."""


class Trainer:
    """Holds the window and what watches for drift. say: a line for whoever looks on; step: an epoch that is over;
    done: what a training was, as JSON types."""

    def __init__(
        self,
        settings: Settings,
        *,
        say: Say = lambda _: None,
        step: Callable[[Epoch], None] = lambda _: None,
        done: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        plan(settings)  # without torch there is no use in reading
        self._settings, self._say, self._step, self._report = settings, say, step, done
        self._at = TopicPartition(settings.topic("training_rows"), 0)
        self._columns = training_records.layout(features.NAMES)
        topic, _ = describe_topic(settings, self._at.topic)
        chosen = settings.trainer
        self.window = RowWindow(chosen.datadir, chosen.window, WIDTH, self._columns, topic)
        self._encoder: Encoder | None = None
        self._drift: Drift | None = None
        self._done: LastTraining | None = None
        self._producer: AIOKafkaProducer | None = None
        self._stopped = False
        self._flushed = self._looked = 0.0

    async def once(self) -> dict[str, Any]:
        """Read to the end, train, publish; what was done. DataError where there are too few rows."""
        try:
            async with reading(self._settings) as consumer:
                consumer.assign([self._at])
                end = await self._seek(consumer)
                while await consumer.position(self._at) < end:
                    await self._read(consumer)
            self._resume()
            rows, least = self.window.learnable(), self._settings.trainer.first_rows
            if rows < least:
                raise DataError(f"{rows} training rows, {least} are needed (trainer.first_rows)")
            self._producer = transactional(self._settings, "trainer-once")
            await self._producer.start()
            return await self._train("asked for")
        finally:
            await self._end()

    async def run(self) -> None:
        """Train whenever it is due, until cancelled; another trainer takes over where this one ends."""
        consumer, mine = member(self._settings, "trainer"), Ownership()
        held = begun = 0  # generations of the ownership: that one was taken over in, and the training began in
        consumer.subscribe([self._at.topic], listener=mine)
        work: asyncio.Task[Any] | None = None
        await consumer.start()
        try:
            while True:  # also while it trains: a member that does not ask for records is put out of the group
                if not mine.owned:
                    await consumer.getmany(timeout_ms=200)
                    continue
                if held != mine.generation or self._producer is None:
                    held = mine.generation
                    await self._take_over(consumer)
                await self._read(consumer)
                if work is not None and work.done():
                    try:
                        await work
                    except TransactionError:
                        if begun == mine.generation:
                            raise
                        self._say("another trainer took over meanwhile: what was trained is dropped")
                    work = None
                if work is None and (why := self._due()) is not None:
                    work, begun = asyncio.create_task(self._train(why)), held
        finally:
            self._stopped = True
            if work is not None:
                work.cancel()
            await consumer.stop()
            await self._end()

    async def _take_over(self, consumer: AIOKafkaConsumer) -> None:
        """Fence off a former owner, and go on where the window ends."""
        await self._let_go()
        self._producer = transactional(self._settings, "trainer-0")
        await self._producer.start()
        await self._seek(consumer)
        self._resume()
        self._say(f"owner, {len(self.window):,} rows in the window, from offset {self.window.next}")

    async def _seek(self, consumer: AIOKafkaConsumer) -> int:
        """Go on where the window ends; the end of the log as it is now."""
        first = (await consumer.beginning_offsets([self._at]))[self._at]
        end: int = (await consumer.end_offsets([self._at]))[self._at]
        consumer.seek(self._at, self.window.resume(first, end))
        return end

    def _resume(self) -> None:
        """The encoder that was trained last, by what the window's folder says."""
        noted, data = self.window.notes.get("done"), self.window.read(ENCODER)
        if noted is None or data is None:
            return
        try:
            encoder = loads(data, features.NAMES, features.R)
        except ValueError as error:
            self._say(f"{self._settings.trainer.datadir / ENCODER} is of no use: {error}")
            return
        self._done = LastTraining(**noted)
        self._watch(encoder)

    def _watch(self, encoder: Encoder) -> None:
        """Watch for drift from those of the held-out users in the training's window on."""
        rows = self.window.rows()
        seen, wanted = rows.offset < (self._done.after if self._done else 0), rows.kind == SAMPLE_ROW
        self._encoder = encoder
        self._drift = Drift(encoder.parts.far, self._settings.trainer.drift)
        self._learn(rows.raw[wanted & seen & in_holdout(rows.user)][-PRIMED:])
        self._learn(rows.raw[wanted & ~seen][-RESUMED:])

    def _learn(self, raw: Floats) -> None:
        if self._drift is not None and self._encoder is not None and len(raw):
            self._drift.learn(self._encoder.reconstruction_error(self._encoder.features(raw)))

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """What there is, into the window."""
        batches = await consumer.getmany(timeout_ms=200, max_records=CHUNK)
        # a rebalance puts the position back, and may do so in the middle of this
        found = [record for records in batches.values() for record in records if record.offset >= self.window.next]
        if found:
            keys, values, offsets = [r.key for r in found], [r.value for r in found], [r.offset for r in found]
            rows = training_records.decode(keys, values, offsets, self._columns, WIDTH)
            self.window.put(rows, offsets[-1] + 1)
            self._learn(rows.raw[rows.kind == SAMPLE_ROW])
        if time.monotonic() - self._flushed > FLUSH:
            self._flushed = time.monotonic()
            self.window.flush()

    def _due(self) -> str | None:
        if time.monotonic() - self._looked < LOOK:
            return None
        self._looked = time.monotonic()
        chosen, done = self._settings.trainer, self._done
        return retraining.reason(
            time.time(),
            done,
            self.window.learnable(),
            self.window.learnable(done.after if done else 0),
            self._drift.due if self._drift else [],
            first=chosen.first_rows,
            every=chosen.every,
        )

    async def _train(self, why: str) -> dict[str, Any]:
        rows, after = self.window.rows(), self.window.next
        self._say(f"training: {why}")
        encoder, report = await asyncio.to_thread(self._trained, rows)
        order = ControlMessage("candidate", uuid.uuid4().hex, encoder=encoder.data, verdict=told(report))
        offset = await self._publish(order)
        self._done = LastTraining(time.time(), after)
        self.window.write(ENCODER, encoder.data)
        self.window.notes = {"done": asdict(self._done)}
        self.window.flush()
        self._watch(encoder)
        found = {
            "reason": why,
            "encoder": encoder.ident,
            "bytes": len(encoder.data),
            "request_id": order.request_id,
            "offset": offset,
            **told(report),
        }
        if self._settings.trainer.promote:
            found["promotion"] = await promoted(self._settings)
        self._report(found)
        return found

    def _trained(self, rows: TrainingRows) -> tuple[Encoder, Report]:
        from online_models.encoder.autoencoder import train

        def step(epoch: Epoch) -> None:
            if self._stopped:
                raise Stopped
            self._step(epoch)

        mine, out = rows.kind == SAMPLE_ROW, in_holdout(rows.user)
        return train(
            rows.raw[mine & ~out],
            rows.raw[mine & out],
            features.NAMES,
            features.R,
            plan(self._settings),
            time.perf_counter,
            step,
        )

    async def _publish(self, order: ControlMessage) -> int:
        """The order's offset; TransactionError where it could not be written, or another trainer has taken over."""
        assert self._producer is not None
        try:
            async with self._producer.transaction():
                sent = await self._producer.send_and_wait(
                    self._at.topic, value=control_messages.encode(order), key=control_messages.KEY, partition=0
                )
        except KafkaError as error:
            raise TransactionError(f"the candidate could not be published: {error!r}") from error
        return int(sent.offset)

    async def _let_go(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with suppress(KafkaError):
                await producer.stop()

    async def _end(self) -> None:
        self._stopped = True
        await self._let_go()
        self.window.close()


async def promoted(settings: Settings, wait: float = 60.0) -> dict[str, Any]:
    """The verdict on the newest candidate, and the learner's answer where it speaks for it."""
    try:
        # in a loop of its own: it computes for so long that the group would miss this member
        evaluation = await asyncio.to_thread(lambda: asyncio.run(promotion.evaluate(settings, "embedding")))
        found = evaluation.to_dict()
        if evaluation.verdict.promoted:
            found["answer"] = await asyncio.to_thread(promotion.promote, settings, evaluation, wait)
    except DataError as error:
        return {"why": str(error)}
    return found
