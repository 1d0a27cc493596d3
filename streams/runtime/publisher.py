"""Transactional producers. A partition's rows, progress and outputs become visible together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import repeat
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    ProducerFenced,
)

from streams.config.settings import Settings
from streams.errors import BrokerError, RecoveryError, TransactionError
from streams.kafka.client_options import aiokafka_options
from streams.processing.outputs.output_buffer import Flush
from streams.processing.progress import Serial
from streams.processing.rejects import Record
from streams.runtime.fatal_errors import authorization_error

MAX_BATCH_BYTES = 900_000  # with the default of 16 KiB a flush would wait for one batch after another
ABORT_SECONDS = 2.0  # for an abort after a failure
FENCING_ERRORS = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState)

SentBatches = list[tuple[Any, int]]  # the future of each batch, and how many records it has


def transactional_producer(settings: Settings, name: str) -> AIOKafkaProducer:
    """A producer, not started, whose transactional id is made of the deployment and a name.

    Starting one fences off any former producer of the same id.
    """
    return AIOKafkaProducer(
        **aiokafka_options(settings),
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=settings.topics.max_message_bytes,
        transactional_id=f"{settings.prefix}{settings.application}-{name}",
        transaction_timeout_ms=int(settings.state.transaction_timeout * 1000),
    )


async def send_records(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    records: Iterable[Record],
    timestamps: Iterable[int | None] = repeat(None),
) -> SentBatches:
    """Send records in whole batches. timestamps: of the records, ms; the wall clock where None.

    A record larger than a batch gets a batch of its own; the broker decides whether it accepts that.
    """
    sent = SentBatches()
    batch = producer.create_batch()
    for (key, value, headers), timestamp in zip(records, timestamps, strict=False):
        if batch.append(key=key, value=value, timestamp=timestamp, headers=headers) is None:  # the batch is full
            sent.append((await producer.send_batch(batch, topic, partition=partition), batch.record_count()))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=timestamp, headers=headers)
    if count := batch.record_count():
        sent.append((await producer.send_batch(batch, topic, partition=partition), count))
    return sent


@asynccontextmanager
async def transaction(producer: AIOKafkaProducer, settings: Settings, where: str) -> AsyncIterator[SentBatches]:
    """One transaction over the records that are sent inside the block; committed at the end of the block.

    Add to the list that it yields what `send_records` returns. where: prefix of error messages.
    TransactionError on any failure, and after state.transaction_timeout. Nothing is retried: whether the broker has
    committed is for the next owner to find out, whose start aborts a transaction that is still open.
    """
    begun, sent = False, SentBatches()
    timeout = settings.state.transaction_timeout  # after it the broker aborts the transaction by itself
    try:
        async with asyncio.timeout(timeout):
            await producer.begin_transaction()
            begun = True
            yield sent
            await asyncio.gather(*(future for future, _ in sent))
            await producer.commit_transaction()
    except asyncio.CancelledError:
        if begun:
            await _abort(producer)
        raise
    except (KafkaError, IllegalOperation, TimeoutError, TransactionError) as error:
        # After a failed send aiokafka only reports that there is no transaction; the futures hold the cause.
        failures = [
            failure
            for future, _ in sent
            if future.done() and not future.cancelled() and (failure := future.exception())
        ]
        cause = next(filter(authorization_error, failures), failures[0] if failures else error)
        if begun:
            await _abort(producer)
        raise transaction_error(cause, where, timeout) from cause


async def _abort(producer: AIOKafkaProducer) -> None:
    """Abort, so that readers need not wait for the next owner. Errors do not matter: a fenced producer cannot."""
    with suppress(Exception):
        async with asyncio.timeout(ABORT_SECONDS):
            await producer.abort_transaction()


def transaction_error(error: BaseException, where: str, timeout: float) -> TransactionError:
    """The TransactionError that reports what ended a transaction. timeout: what the transaction had, seconds."""
    limit = f"state.transaction_timeout ({timeout:g} s)"
    if isinstance(error, TransactionError):
        return error
    if isinstance(error, FENCING_ERRORS):
        return TransactionError(
            f"{where}: fenced off: another worker has taken over, or the transaction took longer than {limit}: "
            f"{error!r}"
        )
    if isinstance(error, TimeoutError):
        return TransactionError(f"{where}: the transaction did not end within {limit}")
    return TransactionError(f"{where}: the transaction failed: {error!r}")


class Publisher:
    """The transactions of one partition. Its start fences off a former owner and aborts that owner's transaction."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._settings, self._partition, self._where = settings, partition, f"partition {partition}"
        self._producer = transactional_producer(settings, f"state-{partition}")
        self.committed = Serial(0, 0)  # of the newest progress in the changelog, set at the end of recovery

    async def start(self) -> None:
        try:
            await self._producer.start()
        except KafkaConnectionError as error:
            raise BrokerError(f"{self._where}: the producer did not start: {error!r}") from error
        except KafkaError as error:
            raise TransactionError(f"{self._where}: the producer did not start: {error!r}") from error

    async def stop(self) -> None:
        await self._producer.stop()

    async def commit(self, flush: Flush) -> int:
        """Write a flush in one transaction. Returns the changelog offset after the last of its rows.

        TransactionError on any failure. RecoveryError, and nothing is sent, where the progress does not follow the
        newest one in the changelog: rows of an incomplete recovery would replace newer rows.
        """
        if not flush.serial.follows(self.committed):
            raise RecoveryError(
                f"{self._where}: the progress to be committed is {flush.serial}, the newest in the changelog is "
                f"{self.committed}: nothing was committed"
            )
        try:
            async with transaction(self._producer, self._settings, self._where) as sent:
                offset = await self._send(flush, sent)
        except asyncio.CancelledError as error:  # aiokafka cancels the futures of a producer that was closed
            raise TransactionError(f"{self._where}: the transaction failed: {error!r}") from error
        self.committed = flush.serial
        return offset

    async def _send(self, flush: Flush, sent: SentBatches) -> int:
        rows: Iterable[Record] = ((key, row, []) for key, row in flush.rows.items())
        row_batches = await send_records(self._producer, self._settings.changelog, self._partition, rows)
        sent += row_batches
        for (topic, partition), records in flush.outputs.items():
            sent += await send_records(self._producer, topic, partition, records)
        future, count = row_batches[-1]
        base_offset: int = (await future).offset  # of the batch's first record
        if base_offset < 0:  # the client repeated a request, and the broker no longer knows the offset of the first try
            raise TransactionError(f"{self._where}: the broker did not return the offset of the rows")
        return base_offset + count
