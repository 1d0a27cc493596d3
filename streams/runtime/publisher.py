"""One transactional producer a partition: rows, progress and outputs are seen together or not at all."""

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
from streams.processing.output_buffer import Flush
from streams.processing.progress import Serial
from streams.processing.rejects import Record
from streams.runtime.fatal_errors import denied

BATCH = 900_000  # bytes; the default of 16 KiB makes a flush wait batch by batch
ABORT = 2.0  # seconds for an abort after a failure
FENCED = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState)

Sent = list[tuple[Any, int]]  # the future of each batch, and how many records it has


def transactional(settings: Settings, name: str) -> AIOKafkaProducer:
    """A producer under the deployment's transactional id of that name: whoever starts one fences off the one before."""
    return AIOKafkaProducer(
        **aiokafka_options(settings),
        max_batch_size=BATCH,
        max_request_size=settings.topics.max_message_bytes,
        transactional_id=f"{settings.prefix}{settings.application}-{name}",
        transaction_timeout_ms=int(settings.state.transaction_timeout * 1000),
    )


async def send(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    records: Iterable[Record],
    stamps: Iterable[int | None] = repeat(None),
) -> Sent:
    """Records in whole batches. stamps: record times in ms, the wall clock where None. A first record of any size is
    taken: the broker judges that."""
    sent = Sent()
    batch = producer.create_batch()
    for (key, value, headers), stamp in zip(records, stamps, strict=False):
        if batch.append(key=key, value=value, timestamp=stamp, headers=headers) is None:
            sent.append((await producer.send_batch(batch, topic, partition=partition), batch.record_count()))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=stamp, headers=headers)
    if count := batch.record_count():
        sent.append((await producer.send_batch(batch, topic, partition=partition), count))
    return sent


@asynccontextmanager
async def transaction(producer: AIOKafkaProducer, settings: Settings, where: str) -> AsyncIterator[Sent]:
    """One transaction over what is sent inside and noted in what it gives; committed at the end of the block.

    TransactionError, which says where, on any failure and after state.transaction_timeout. Nothing is tried again:
    whether the broker committed is for the next owner to find out, whose start aborts what is still open.
    """
    begun, sent = False, Sent()
    patience = settings.state.transaction_timeout  # beyond it the broker has aborted what is open
    try:
        async with asyncio.timeout(patience):
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
        # after a send that failed the client says only that there is no transaction any more
        failed = [why for one, _ in sent if one.done() and not one.cancelled() and (why := one.exception())]
        why = next(filter(denied, failed), failed[0] if failed else error)
        if begun:
            await _abort(producer)
        raise told(why, where, patience) from why


async def _abort(producer: AIOKafkaProducer) -> None:
    """Readers need not wait for the next owner; a courtesy, for a producer that was fenced off cannot."""
    with suppress(Exception):
        async with asyncio.timeout(ABORT):
            await producer.abort_transaction()


def told(error: BaseException, where: str, patience: float) -> TransactionError:
    """What ended a transaction that had so many seconds."""
    limit = f"state.transaction_timeout ({patience:g} s)"
    if isinstance(error, TransactionError):
        return error
    if isinstance(error, FENCED):
        return TransactionError(
            f"{where}: fenced off: another worker has taken over, or the transaction took longer than {limit}: "
            f"{error!r}"
        )
    if isinstance(error, TimeoutError):
        return TransactionError(f"{where}: the transaction did not end within {limit}")
    return TransactionError(f"{where}: the transaction failed: {error!r}")


class Publisher:
    """The transactions of one partition. Starting it fences off a former owner and aborts what that left open."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._settings, self._partition, self._where = settings, partition, f"partition {partition}"
        self._producer = transactional(settings, f"state-{partition}")
        self.committed = Serial(0, 0)  # of the newest progress in the changelog, once that is known

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
        """One transaction; returns the changelog offset after the last of its rows.

        TransactionError on any failure. RecoveryError, and nothing is sent, where the progress is not the one that
        follows on the newest in the changelog: rows of an unfinished recovery would take the place of newer ones.
        """
        if not flush.serial.follows(self.committed):
            raise RecoveryError(
                f"{self._where}: the progress to be committed is {flush.serial}, the newest in the changelog is "
                f"{self.committed}: nothing was committed"
            )
        try:
            async with transaction(self._producer, self._settings, self._where) as sent:
                offset = await self._send(flush, sent)
        except asyncio.CancelledError as error:  # the client's own way to say that it was closed
            raise TransactionError(f"{self._where}: the transaction failed: {error!r}") from error
        self.committed = flush.serial
        return offset

    async def _send(self, flush: Flush, sent: Sent) -> int:
        rows: Iterable[Record] = ((key, row, []) for key, row in flush.rows.items())
        mine = await send(self._producer, self._settings.changelog, self._partition, rows)
        sent += mine
        for (topic, partition), records in flush.outputs.items():
            sent += await send(self._producer, topic, partition, records)
        future, count = mine[-1]
        base: int = (await future).offset  # of the batch: its first record
        if base < 0:  # a repeat of a request that the broker had already taken, and no longer knows where
            raise TransactionError(f"{self._where}: the broker does not say where the rows lie")
        return base + count
