"""One transactional producer a partition: rows, progress and outputs are seen together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError

from streams.crash import denied
from streams.errors import TransactionError
from streams.rejects import Record
from streams.security import aiokafka_options
from streams.settings import Settings
from streams.task import Flush

BATCH = 900_000  # bytes; the default of 16 KiB makes a flush wait batch by batch


class Publisher:
    """The transactions of one partition. Starting it fences off a former owner and aborts what that left open."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self._partition, self._changelog = partition, settings.changelog
        self._producer = AIOKafkaProducer(
            **aiokafka_options(settings), max_batch_size=BATCH, max_request_size=settings.topics.max_message_bytes,
            transactional_id=f"{settings.prefix}{settings.application}-state-{partition}",
            transaction_timeout_ms=int(settings.state.transaction_timeout * 1000),
        )  # fmt: skip

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
        sent: list[Any] = []
        try:
            async with self._producer.transaction():
                rows = await self._send(self._changelog, self._partition, ((k, v, []) for k, v in flush.rows.items()))
                sent += rows
                for (topic, partition), records in flush.outputs.items():
                    sent += await self._send(topic, partition, records)
                await asyncio.gather(*sent)
                last = [await one for one in rows][-1]
        except (KafkaError, IllegalOperation, asyncio.CancelledError) as error:
            # after a send that failed the client says only that there is no transaction any more
            failed = [why for one in sent if one.done() and not one.cancelled() and (why := one.exception())]
            why = next(filter(denied, failed), failed[0] if failed else error)
            raise TransactionError(f"partition {self._partition}: the transaction failed: {why!r}") from why
        count: int = last.offset
        return count + 1

    async def _send(self, topic: str, partition: int, records: Iterable[Record]) -> list[Any]:
        sent = []
        batch = self._producer.create_batch()
        for key, value, headers in records:
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                if batch.record_count():
                    sent.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                    raise TransactionError(f"a record of {len(value or b'')} bytes for {topic} is over the batch size")
        if batch.record_count():
            sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        return sent
