"""One transactional producer a partition: rows, progress and outputs are seen together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import repeat
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.errors import TransactionError
from streams.rejects import Record
from streams.security import aiokafka_options
from streams.settings import Settings
from streams.task import Flush

BATCH = 900_000  # bytes; the default of 16 KiB makes a flush wait batch by batch


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
) -> list[Any]:  # fmt: skip
    """Records in whole batches; a future for each batch. stamps: record times in ms, the wall clock where None."""
    sent = []
    batch = producer.create_batch()
    for (key, value, headers), stamp in zip(records, stamps, strict=False):
        if batch.append(key=key, value=value, timestamp=stamp, headers=headers) is None:
            if batch.record_count():
                sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            if batch.append(key=key, value=value, timestamp=stamp, headers=headers) is None:
                raise TransactionError(f"a record of {len(value or b'')} bytes for {topic} is over the batch size")
    if batch.record_count():
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent


class Publisher:
    """The transactions of one partition. Starting it fences off a former owner and aborts what that left open."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._partition, self._changelog = partition, settings.changelog
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

        TransactionError on any failure: what happened is then for the next owner to find out.
        """
        try:
            async with self._producer.transaction():
                rows = await send(
                    self._producer, self._changelog, self._partition, ((k, v, []) for k, v in flush.rows.items())
                )
                sent: list[Any] = []
                for (topic, partition), records in flush.outputs.items():
                    sent += await send(self._producer, topic, partition, records)
                await asyncio.gather(*sent)
                last = [await one for one in rows][-1]
        except (KafkaError, asyncio.CancelledError) as error:
            raise TransactionError(f"partition {self._partition}: the transaction failed: {error!r}") from error
        count: int = last.offset
        return count + 1
