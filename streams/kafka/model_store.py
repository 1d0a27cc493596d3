"""The model versions that lie in `models`, for whoever looks at them: numbered, without what only the learner needs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from aiokafka.structs import TopicPartition

from online_models.version import Version, loads
from streams.config.settings import Settings
from streams.errors import DataError, StateError, TopicsError
from streams.kafka.reader import reading, to_end


async def read(settings: Settings) -> AsyncIterator[tuple[int, bytes | None]]:
    """Number and bytes of each record in the order of the log; None: the version is no longer kept. The newest version
    has the learner's state, those before it are published once more without. TopicsError where there is no topic."""
    topic = settings.topic("models")
    async with reading(settings) as consumer:
        if topic not in await consumer.topics():
            raise TopicsError(f"missing: {topic}")
        at = TopicPartition(topic, 0)
        consumer.assign([at])
        async for record in to_end(consumer, await consumer.beginning_offsets([at])):
            yield int(record.key), record.value


async def kept(settings: Settings) -> dict[int, Version]:
    """The versions by number, ascending, without the learner's state. StateError where one cannot be read."""
    found: dict[int, Version | StateError] = {}
    async for number, data in read(settings):
        if data is None:
            found.pop(number, None)
            continue
        try:
            found[number] = stateless(parsed(data, f"model version {number}"))
        except StateError as error:  # of no account where it is not kept
            found[number] = error
    out = {}
    for number, one in sorted(found.items()):
        if isinstance(one, StateError):
            raise one
        out[number] = one
    return out


async def published(settings: Settings, number: int) -> list[bytes]:
    """All bytes in which a version lies in the log: with the learner's state, without it, or both. DataError where
    there is no such version."""
    found: list[bytes] = []
    async for one, data in read(settings):
        if one == number:
            found = [] if data is None else [*found, data]
    if not found:
        raise DataError(f"there is no model version {number}")
    return found


def parsed(data: bytes, what: str) -> Version:
    """A version; StateError names what it was."""
    try:
        return loads(data)
    except ValueError as error:
        raise StateError(f"{what} cannot be read: {error}") from None


def stateless(version: Version) -> Version:
    """As a version is published once more when the next one comes."""
    return msgspec.structs.replace(version, state=b"")


def pick(versions: dict[int, Version], number: int | None = None) -> Version:
    """A version by number, the newest without one; DataError names those that there are."""
    if not versions:
        raise DataError("there is no model version yet")
    chosen = max(versions) if number is None else number
    if chosen not in versions:
        raise DataError(f"there is no model version {chosen}: there are {min(versions)} to {max(versions)}")
    return versions[chosen]


def write(path: Path, data: bytes) -> None:
    """A new file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
