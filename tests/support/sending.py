"""Records into topics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from streams.config.settings import Settings
from streams.kafka.client_options import aiokafka_options


class Message(NamedTuple):
    """A record to send. partition None: by the default partitioner; stamp: the record's time, ms, None for now."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    stamp: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


async def send_records(
    settings: Settings, records: Iterable[tuple[str, Message]], **producer: Any
) -> list[RecordMetadata]:
    """Send records, each to its topic, in their order; where each lies. producer: options of the producer."""
    options = {"linger_ms": 5, "acks": "all", "max_request_size": 8 << 20, **producer}
    sender = AIOKafkaProducer(**aiokafka_options(settings), **options)
    await sender.start()
    try:
        waiting = [
            await sender.send(
                topic,
                message.value,
                key=message.key,
                partition=message.partition,
                timestamp_ms=message.stamp,
                headers=list(message.headers),
            )
            for topic, message in records
        ]
        return await asyncio.gather(*waiting)
    finally:
        await sender.stop()


def send(settings: Settings, topic: str, messages: Iterable[Message], **producer: Any) -> list[RecordMetadata]:
    """The same for one topic, where no event loop runs."""
    return asyncio.run(send_records(settings, ((topic, message) for message in messages), **producer))
