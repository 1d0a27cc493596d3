"""`shoal train`: keeps a window of `training-rows` on the disk, and trains an encoder from it now and then.

A process of its own. One of all trainers owns the partition, in a consumer group of their own. Nothing starts from the
group's offsets: each trainer resumes from its own window. A candidate is sent as a control message, a record of
`training-rows`, so the learner meets it at the same place in every rebuild.
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
from streams.processing.outputs import training_records
from streams.runtime.publisher import transactional_producer
from streams.services.ownership import Ownership, group_member
from streams.trainer.plan import report_to_json, training_plan
from streams.trainer.row_window import RowWindow

if TYPE_CHECKING:
    from online_models.encoder.autoencoder import Epoch, Report

log = logging.getLogger(__name__)
WIDTH = 2 * features.R + len(features.PLAIN)
POLL_MS = 200
MAX_POLL_RECORDS = 5_000
CHECK_INTERVAL = 2.0  # seconds between two checks whether a training is due
FLUSH_INTERVAL = 10.0  # seconds between two writes of the window's header
DRIFT_REFERENCE_ROWS = 5_000  # newest rows of held-out users in the last training, the first reference for drift
DRIFT_RESUME_ROWS = 100_000  # newest rows since the last training that are checked for drift after a start
ENCODER_FILE = "encoder.safetensors"  # in the window's folder: the encoder trained last
Notify = Callable[[str], None]


class Stopped(Exception):
    """A training was given up because the process is to end."""


class Trainer:
    """Holds the window of rows and the detection of drift, and trains."""

    def __init__(
        self,
        settings: Settings,
        *,
        notify: Notify = lambda _: None,
        on_epoch: Callable[[Epoch], None] = lambda _: None,
        on_training: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        """notify: gets a line for the operator. on_epoch: called after each epoch, in the training's thread.
        on_training: gets the result of a training in JSON types."""
        training_plan(settings)  # fails at once where torch is missing
        self._settings, self._notify, self._on_epoch, self._on_training = settings, notify, on_epoch, on_training
        self._partition = TopicPartition(settings.topic("training_rows"), 0)
        self._columns = training_records.layout(features.NAMES)
        topic_id, _ = describe_topic(settings, self._partition.topic)
        trainer = settings.trainer
        self.window = RowWindow(trainer.datadir, trainer.window, WIDTH, self._columns, topic_id)
        self._encoder: Encoder | None = None
        self._drift: Drift | None = None
        self._last_training: LastTraining | None = None
        self._producer: AIOKafkaProducer | None = None
        self._stopped = False
        self._last_flush = self._last_check = 0.0  # monotonic seconds

    async def train_once(self) -> dict[str, Any]:
        """Read the topic to its end, train, and publish the candidate. Returns the result in JSON types.

        DataError where there are too few rows.
        """
        try:
            async with reading(self._settings) as consumer:
                consumer.assign([self._partition])
                log_end = await self._seek(consumer)
                while await consumer.position(self._partition) < log_end:
                    await self._read(consumer)
            self._resume()
            rows, least = self.window.learnable(), self._settings.trainer.first_rows
            if rows < least:
                raise DataError(f"{rows} training rows, {least} are needed (trainer.first_rows)")
            self._producer = transactional_producer(self._settings, "trainer-once")
            await self._producer.start()
            return await self._train("asked for")
        finally:
            await self._close()

    async def run(self) -> None:
        """Train whenever it is due, until cancelled. TransactionError where a candidate could not be published.

        Polling goes on during a training: a member that does not poll is removed from the group.
        """
        consumer, ownership = group_member(self._settings, "trainer"), Ownership()
        owned_generation = training_generation = 0  # of the ownership, at the last take-over and the training's start
        consumer.subscribe([self._partition.topic], listener=ownership)
        training: asyncio.Task[Any] | None = None
        await consumer.start()
        try:
            while True:
                if not ownership.owned:
                    await consumer.getmany(timeout_ms=POLL_MS)
                    continue
                if owned_generation != ownership.generation or self._producer is None:
                    owned_generation = ownership.generation
                    await self._take_over(consumer)
                await self._read(consumer)
                if training is not None and training.done():
                    try:
                        await training
                    except TransactionError:
                        if training_generation == ownership.generation:
                            raise
                        self._notify("another trainer took over meanwhile: the trained encoder is dropped")
                    training = None
                if training is None and (reason := self._due_reason()) is not None:
                    training, training_generation = asyncio.create_task(self._train(reason)), owned_generation
        finally:
            self._stopped = True
            if training is not None:
                training.cancel()
            await consumer.stop()
            await self._close()

    async def _take_over(self, consumer: AIOKafkaConsumer) -> None:
        """Fence off a former owner, and resume where the window ends."""
        await self._stop_producer()
        self._producer = transactional_producer(self._settings, "trainer-0")
        await self._producer.start()
        await self._seek(consumer)
        self._resume()
        self._notify(f"owner, {len(self.window):,} rows in the window, from offset {self.window.next_offset}")

    async def _seek(self, consumer: AIOKafkaConsumer) -> int:
        """Seek to where the window ends. Returns the end of the log."""
        log_start = (await consumer.beginning_offsets([self._partition]))[self._partition]
        log_end: int = (await consumer.end_offsets([self._partition]))[self._partition]
        consumer.seek(self._partition, self.window.resume(log_start, log_end))
        return log_end

    def _resume(self) -> None:
        """Load the encoder that was trained last, where the window's folder has it."""
        noted, data = self.window.notes.get("done"), self.window.read(ENCODER_FILE)
        if noted is None or data is None:
            return
        try:
            encoder = loads(data, features.NAMES, features.R)
        except ValueError as error:
            self._notify(f"{self._settings.trainer.datadir / ENCODER_FILE} cannot be used: {error}")
            return
        self._last_training = LastTraining(**noted)
        self._watch_drift(encoder)

    def _watch_drift(self, encoder: Encoder) -> None:
        """Start drift detection for an encoder: the reference is held-out users' rows from before its training."""
        rows = self.window.rows()
        trained_to = self._last_training.after if self._last_training else 0
        before, samples = rows.offset < trained_to, rows.kind == SAMPLE_ROW
        self._encoder = encoder
        self._drift = Drift(encoder.parts.far, self._settings.trainer.drift)
        self._learn_drift(rows.raw[samples & before & in_holdout(rows.user)][-DRIFT_REFERENCE_ROWS:])
        self._learn_drift(rows.raw[samples & ~before][-DRIFT_RESUME_ROWS:])

    def _learn_drift(self, raw: Floats) -> None:
        """raw: (rows, WIDTH) raw features."""
        if self._drift is not None and self._encoder is not None and len(raw):
            self._drift.learn(self._encoder.reconstruction_error(self._encoder.features(raw)))

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        """Put one poll's records into the window."""
        batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_POLL_RECORDS)
        # A rebalance during the poll may reset the consumer's position: skip what the window has already.
        next_offset = self.window.next_offset
        records = [record for batch in batches.values() for record in batch if record.offset >= next_offset]
        if records:
            keys, values = [record.key for record in records], [record.value for record in records]
            offsets = [record.offset for record in records]
            rows = training_records.decode(keys, values, offsets, self._columns, WIDTH)
            self.window.put(rows, offsets[-1] + 1)
            self._learn_drift(rows.raw[rows.kind == SAMPLE_ROW])
        if time.monotonic() - self._last_flush > FLUSH_INTERVAL:
            self._last_flush = time.monotonic()
            self.window.flush()

    def _due_reason(self) -> str | None:
        """Why a training is due; None where it is not, or was checked a moment ago."""
        if time.monotonic() - self._last_check < CHECK_INTERVAL:
            return None
        self._last_check = time.monotonic()
        trainer, last = self._settings.trainer, self._last_training
        return retraining.reason(
            time.time(),
            last,
            self.window.learnable(),
            self.window.learnable(last.after if last else 0),
            self._drift.due if self._drift else [],
            first=trainer.first_rows,
            every=trainer.every,
        )

    async def _train(self, reason: str) -> dict[str, Any]:
        """Train on the window, publish the candidate, remember both. Returns the result in JSON types."""
        rows, next_offset = self.window.rows(), self.window.next_offset
        self._notify(f"training: {reason}")
        encoder, report = await asyncio.to_thread(self._fit, rows)
        candidate = ControlMessage("candidate", uuid.uuid4().hex, encoder=encoder.data, verdict=report_to_json(report))
        offset = await self._publish(candidate)
        self._last_training = LastTraining(time.time(), next_offset)
        self.window.write(ENCODER_FILE, encoder.data)
        self.window.notes = {"done": asdict(self._last_training)}
        self.window.flush()
        self._watch_drift(encoder)
        result = {
            "reason": reason,
            "encoder": encoder.ident,
            "bytes": len(encoder.data),
            "request_id": candidate.request_id,
            "offset": offset,
            **report_to_json(report),
        }
        if self._settings.trainer.promote:
            result["promotion"] = await promote_candidate(self._settings)
        self._on_training(result)
        return result

    def _fit(self, rows: TrainingRows) -> tuple[Encoder, Report]:
        """Train an encoder; runs in a thread. Stopped where the process is to end."""
        from online_models.encoder.autoencoder import train

        def after_epoch(epoch: Epoch) -> None:
            if self._stopped:
                raise Stopped
            self._on_epoch(epoch)

        samples, held_out = rows.kind == SAMPLE_ROW, in_holdout(rows.user)
        return train(
            rows.raw[samples & ~held_out],
            rows.raw[samples & held_out],
            features.NAMES,
            features.R,
            training_plan(self._settings),
            time.perf_counter,
            after_epoch,
        )

    async def _publish(self, candidate: ControlMessage) -> int:
        """Returns the candidate's offset. TransactionError where it could not be written, for example because another
        trainer has taken over."""
        assert self._producer is not None
        try:
            async with self._producer.transaction():
                sent = await self._producer.send_and_wait(
                    self._partition.topic,
                    value=control_messages.encode(candidate),
                    key=control_messages.KEY,
                    partition=0,
                )
        except KafkaError as error:
            raise TransactionError(f"the candidate could not be published: {error!r}") from error
        return int(sent.offset)

    async def _stop_producer(self) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            with suppress(KafkaError):
                await producer.stop()

    async def _close(self) -> None:
        self._stopped = True
        await self._stop_producer()
        self.window.close()


async def promote_candidate(settings: Settings, timeout: float = 60.0) -> dict[str, Any]:
    """Evaluate the newest candidate, and have the learner promote it where it is better.

    timeout: seconds for the learner's answer. Returns the evaluation in JSON types, with the answer under "answer";
    {"why": reason} where there is not enough data.
    """
    try:
        # In a thread, in an event loop of its own: the evaluation computes for so long that this member would miss
        # its polls and be removed from the group.
        evaluation = await asyncio.to_thread(lambda: asyncio.run(promotion.evaluate(settings, "embedding")))
        result = evaluation.to_dict()
        if evaluation.verdict.promoted:
            result["answer"] = await asyncio.to_thread(promotion.promote, settings, evaluation, timeout)
    except DataError as error:
        return {"why": str(error)}
    return result
