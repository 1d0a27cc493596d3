"""Topics as committed, read outside any group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streams.config.settings import Settings
from streams.kafka.client_options import aiokafka_options
from streams.kafka.connectivity import unreachable


def reader(settings: Settings) -> AIOKafkaConsumer:
    """A consumer outside any group that sees only what was committed."""
    return AIOKafkaConsumer(
        **aiokafka_options(settings),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 << 20,
        fetch_max_wait_ms=200,
    )


_stopping: set[asyncio.Future[None]] = set()  # the event loop alone would not keep them


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """Such a consumer, started and stopped; BrokerError where no broker answers."""
    async with started(reader(settings), settings) as consumer:
        yield consumer


@asynccontextmanager
async def started(consumer: AIOKafkaConsumer, settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer, started and stopped; BrokerError where no broker answers.

    The stop is shielded: aiokafka awaits its own tasks in it and suppresses their cancellation, so that of the caller
    would be lost there too, and connections would stay open.
    """
    try:
        await consumer.start()
    except KafkaError:
        await consumer.stop()
        raise await unreachable(settings) from None
    try:
        yield consumer
    finally:
        stop = asyncio.ensure_future(consumer.stop())
        _stopping.add(stop)
        stop.add_done_callback(_stopping.discard)
        await asyncio.shield(stop)


async def to_end(consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int]) -> AsyncIterator[Any]:
    """Records of assigned partitions, one partition after the other, each from an offset up to the end found now."""
    ends = await consumer.end_offsets(list(starts))
    for tp, start in starts.items():
        consumer.seek(tp, start)
    for tp in starts:
        while await consumer.position(tp) < ends[tp]:
            for record in (await consumer.getmany(tp, timeout_ms=200)).get(tp, []):
                yield record
