"""The `models` topic as every worker reads it: outside the group, from its start, only what was committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from online_models.version import Version, loads
from streams.errors import StateError
from streams.reach import unreachable
from streams.security import aiokafka_options
from streams.settings import Settings

log = logging.getLogger(__name__)


class Models:
    """Versions by number, without the learner's state; calls on_version for each new one."""

    def __init__(self, settings: Settings, on_version: Callable[[Version], None]) -> None:
        self._settings, self._on_version = settings, on_version
        self.versions: dict[int, Version] = {}
        self.ready = asyncio.Event()  # read to the end that was seen at the start

    @property
    def newest(self) -> Version | None:
        return self.versions[max(self.versions)] if self.versions else None

    async def run(self) -> None:
        """Read until cancelled."""
        at = TopicPartition(self._settings.topic("models"), 0)
        consumer = reader(self._settings)
        await consumer.start()
        try:
            consumer.assign([at])
            await consumer.seek_to_beginning(at)
            end = (await consumer.end_offsets([at]))[at]
            while True:
                if not self.ready.is_set() and await consumer.position(at) >= end:
                    self.ready.set()
                for records in (await consumer.getmany(at, timeout_ms=200)).values():
                    for record in records:
                        self._take(record.key, record.value)
        finally:
            await consumer.stop()

    def _take(self, key: bytes, value: bytes | None) -> None:
        number = int(key)
        if value is None:
            self.versions.pop(number, None)
            return
        try:
            version = msgspec.structs.replace(loads(value), state=b"")
        except ValueError as error:
            raise StateError(f"model version {number} cannot be read: {error}") from error
        if number in self.versions:  # the same without the learner's state
            return
        self.versions[number] = version
        log.info("model version %d, learned up to %d", number, version.learned_to)
        self._on_version(version)


def reader(settings: Settings) -> AIOKafkaConsumer:
    """A consumer outside any group that sees only what was committed."""
    return AIOKafkaConsumer(
        **aiokafka_options(settings), isolation_level="read_committed", enable_auto_commit=False,
        auto_offset_reset="earliest", max_partition_fetch_bytes=8 << 20, fetch_max_wait_ms=200,
    )  # fmt: skip


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """Such a consumer, started and stopped; BrokerError where no broker answers."""
    consumer = reader(settings)
    try:
        await consumer.start()
    except KafkaError:
        await consumer.stop()
        raise await unreachable(settings) from None
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read_newest(settings: Settings) -> Version | None:
    """The newest version with its learner's state, read to the topic's end."""
    at = TopicPartition(settings.topic("models"), 0)
    newest: bytes | None = None
    number = 0
    async with reading(settings) as consumer:
        consumer.assign([at])
        await consumer.seek_to_beginning(at)
        end = (await consumer.end_offsets([at]))[at]
        while await consumer.position(at) < end:
            for records in (await consumer.getmany(at, timeout_ms=200)).values():
                for record in records:
                    if record.value is not None and int(record.key) > number:
                        number, newest = int(record.key), record.value
    return None if newest is None else loads(newest)
