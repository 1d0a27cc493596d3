"""The `models` topic as every worker reads it: outside the group, from its start, only what was committed."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from aiokafka.structs import TopicPartition

from online_models.version import Version, loads
from streams.config.settings import Settings
from streams.errors import StateError
from streams.kafka.reader import reader, reading, to_end

log = logging.getLogger(__name__)


class Models:
    """Versions by number, without the learner's state; calls on_version for each new one."""

    def __init__(self, settings: Settings, on_version: Callable[[Version], None]) -> None:
        self._settings, self._on_version = settings, on_version
        self.versions: dict[int, Version] = {}

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
            while True:
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
            version = assigning(value)
        except ValueError as error:
            raise StateError(f"model version {number} cannot be read: {error}") from error
        if number in self.versions:  # the same without the learner's state
            return
        self.versions[number] = version
        log.info("model version %d, learned up to %d", number, version.learned_to)
        self._on_version(version)


def assigning(value: bytes) -> Version:
    """What assigning needs of a version; ValueError where it cannot be read."""
    return msgspec.structs.replace(loads(value), state=b"")


async def read_newest(settings: Settings) -> Version | None:
    """The newest version with its learner's state, read to the topic's end."""
    at = TopicPartition(settings.topic("models"), 0)
    newest: bytes | None = None
    number = 0
    async with reading(settings) as consumer:
        consumer.assign([at])
        async for record in to_end(consumer, await consumer.beginning_offsets([at])):
            if record.value is not None and int(record.key) > number:
                number, newest = int(record.key), record.value
    return None if newest is None else loads(newest)
