"""One transactional producer a partition: rows, progress and outputs are seen together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from itertools import repeat
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    ProducerFenced,
)

from streams.crash import denied
from streams.errors import TransactionError
from streams.outbox import Flush
from streams.rejects import Record
from streams.security import aiokafka_options
from streams.settings import Settings

BATCH = 900_000  # bytes; the default of 16 KiB makes a flush wait batch by batch
ABORT = 2.0  # seconds for an abort after a failure
FENCED = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping, InvalidTxnState)


def transactional(settings: Settings, name: str) -> AIOKafkaProducer:
    """A producer under the deployment's transactional id of that name: whoever starts one fences off the one before."""
    return AIOKafkaProducer(
        **aiokafka_options(settings), max_batch_size=BATCH, max_request_size=settings.topics.max_message_bytes,
        transactional_id=f"{settings.prefix}{settings.application}-{name}",
        transaction_timeout_ms=int(settings.state.transaction_timeout * 1000),
    )  # fmt: skip


async def send(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Iterable[Record],
    stamps: Iterable[int | None] = repeat(None),
) -> list[tuple[Any, int]]:  # fmt: skip
    """Records in whole batches: the future of each, and how many records it has. stamps: record times in ms, the wall
    clock where None. A first record of any size is taken: the broker judges that."""
    sent: list[tuple[Any, int]] = []
    batch = producer.create_batch()
    for (key, value, headers), stamp in zip(records, stamps, strict=False):
        if batch.append(key=key, value=value, timestamp=stamp, headers=headers) is None:
            sent.append((await producer.send_batch(batch, topic, partition=partition), batch.record_count()))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=stamp, headers=headers)
    if count := batch.record_count():
        sent.append((await producer.send_batch(batch, topic, partition=partition), count))
    return sent


class Publisher:
    """The transactions of one partition. Starting it fences off a former owner and aborts what that left open."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._partition, self._changelog = partition, settings.changelog
        self._patience = settings.state.transaction_timeout  # beyond it the broker has aborted what is open
        self._producer = transactional(settings, f"state-{partition}")

    async def start(self) -> None:
        try:
            await self._producer.start()
        except KafkaError as error:
            raise TransactionError(f"partition {self._partition}: the producer did not start: {error!r}") from error

    async def stop(self) -> None:
        await self._producer.stop()

    async def commit(self, flush: Flush) -> int:
        """One transaction; returns the changelog offset after the last of its rows.

        TransactionError on any failure. Nothing is tried again here: whether the broker committed is for the next owner
        to find out, whose start aborts what is still open.
        """
        begun = False
        sent: list[tuple[Any, int]] = []
        try:
            async with asyncio.timeout(self._patience):
                await self._producer.begin_transaction()
                begun = True
                offset = await self._send_all(flush, sent)
                await self._producer.commit_transaction()
            return offset
        except (KafkaError, IllegalOperation, TimeoutError, TransactionError, asyncio.CancelledError) as error:
            # after a send that failed the client says only that there is no transaction any more
            failed = [why for one, _ in sent if one.done() and not one.cancelled() and (why := one.exception())]
            why = next(filter(denied, failed), failed[0] if failed else error)
            if begun:
                await self._abort()
            raise self._told(why) from why

    async def _send_all(self, flush: Flush, sent: list[tuple[Any, int]]) -> int:
        rows = await send(self._producer, self._changelog, self._partition, ((k, v, []) for k, v in flush.rows.items()))
        sent += rows
        for (topic, partition), records in flush.outputs.items():
            sent += await send(self._producer, topic, partition, records)
        await asyncio.gather(*(future for future, _ in sent))
        future, count = rows[-1]
        base: int = (await future).offset  # of the batch: its first record
        if base < 0:  # a repeat of a request that the broker had already taken, and no longer knows where
            raise TransactionError(f"partition {self._partition}: the broker does not say where the rows lie")
        return base + count

    async def _abort(self) -> None:
        """Readers need not wait for the next owner; a courtesy, for a producer that was fenced off cannot."""
        with suppress(Exception):
            async with asyncio.timeout(ABORT):
                await self._producer.abort_transaction()

    def _told(self, error: BaseException) -> TransactionError:
        where, limit = f"partition {self._partition}", f"state.transaction_timeout ({self._patience:g} s)"
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
