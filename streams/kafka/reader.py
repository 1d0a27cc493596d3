"""Consumers outside any group that read committed records, and their start, stop and reading to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streams.config.settings import Settings
from streams.errors import TopicsError
from streams.kafka.client_options import aiokafka_options
from streams.kafka.connectivity import unreachable

# The event loop keeps weak references only: a stop that nobody awaits any more would be collected before its end.
_pending_stops: set[asyncio.Future[None]] = set()


def reader(settings: Settings) -> AIOKafkaConsumer:
    """A consumer outside any group, not started, that reads committed records only."""
    return AIOKafkaConsumer(
        **aiokafka_options(settings),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 << 20,
        fetch_max_wait_ms=200,
    )


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """The consumer of reader(), started, and stopped at the end. BrokerError where no broker answers."""
    async with started(reader(settings), settings) as consumer:
        yield consumer


@asynccontextmanager
async def started(consumer: AIOKafkaConsumer, settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """Start a consumer, and stop it at the end. BrokerError where no broker answers.

    The stop is shielded. aiokafka awaits its own tasks in `stop` and suppresses their cancellation, so a cancellation
    of the caller would be lost there too, and connections would stay open.
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
        _pending_stops.add(stop)
        stop.add_done_callback(_pending_stops.discard)
        await asyncio.shield(stop)


async def to_end(consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int]) -> AsyncIterator[Any]:
    """Read assigned partitions one after another, each from its offset in `starts` to the end that it has now."""
    ends = await consumer.end_offsets(list(starts))
    for tp, start in starts.items():
        consumer.seek(tp, start)
    for tp in starts:
        while await consumer.position(tp) < ends[tp]:
            fetched = await consumer.getmany(tp, timeout_ms=200)
            for record in fetched.get(tp, []):
                yield record


async def single_partition(settings: Settings, topic: str) -> AsyncIterator[Any]:
    """All committed records of a topic that has one partition. TopicsError where the topic does not exist."""
    async with reading(settings) as consumer:
        if topic not in await consumer.topics():
            raise TopicsError(f"missing: {topic}")
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        async for record in to_end(consumer, await consumer.beginning_offsets([tp])):
            yield record
