"""The `models` topic as every worker reads it: outside any group, from its start, committed records only."""

from __future__ import annotations

import logging
from collections.abc import Callable

from aiokafka.structs import TopicPartition

from online_models.version import Version, loads
from state import features
from streams.config.settings import Settings
from streams.errors import StateError
from streams.kafka.model_store import without_learner_state
from streams.kafka.reader import reader, reading, to_end

log = logging.getLogger(__name__)


class ModelFeed:
    """All versions in `models` by number, without the learner's state. Calls on_version for each new one."""

    def __init__(self, settings: Settings, on_version: Callable[[Version], None]) -> None:
        self._settings, self._on_version = settings, on_version
        self.versions: dict[int, Version] = {}

    @property
    def newest(self) -> Version | None:
        return self.versions[max(self.versions)] if self.versions else None

    async def run(self) -> None:
        """Read until cancelled. StateError where a version cannot be read."""
        partition = TopicPartition(self._settings.topic("models"), 0)
        consumer = reader(self._settings)
        await consumer.start()
        try:
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            while True:
                for records in (await consumer.getmany(partition, timeout_ms=200)).values():
                    for record in records:
                        self._apply(record.key, record.value)
        finally:
            await consumer.stop()

    def _apply(self, key: bytes, value: bytes | None) -> None:
        number = int(key)
        if value is None:
            self.versions.pop(number, None)
            return
        version = without_learner_state(_loads(number, value))
        if number in self.versions:  # published again, without the learner's state, when its successor came
            return
        self.versions[number] = version
        log.info("model version %d, learned up to %d", number, version.learned_to)
        self._on_version(version)


def check_features(version: Version) -> None:
    """ValueError unless a version was learned over the features of this release."""
    if version.names != features.NAMES or version.ratios != features.R:
        others = sorted(set(version.names) ^ set(features.NAMES))
        raise ValueError(f"it was learned over other features; the difference: {', '.join(others) or 'their order'}")


def _loads(number: int, value: bytes) -> Version:
    """StateError where a version cannot be read or was learned over other features."""
    try:
        version = loads(value)
        check_features(version)
    except ValueError as error:
        raise StateError(f"model version {number} cannot be used: {error}") from error
    return version


async def read_newest(settings: Settings) -> Version | None:
    """The newest version with its learner's state, from a read of the whole topic; None where there is none.

    StateError where it cannot be read or was learned over other features.
    """
    partition = TopicPartition(settings.topic("models"), 0)
    newest: bytes | None = None
    number = 0
    async with reading(settings) as consumer:
        consumer.assign([partition])
        async for record in to_end(consumer, await consumer.beginning_offsets([partition])):
            if record.value is not None and int(record.key) > number:
                number, newest = int(record.key), record.value
    return None if newest is None else _loads(number, newest)
