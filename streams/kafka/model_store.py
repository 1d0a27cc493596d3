"""Reads the model versions of the topic `models`, and writes one to a file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from online_models.version import Version, loads
from streams.config.settings import Settings
from streams.errors import DataError, StateError
from streams.kafka.reader import single_partition


async def read(settings: Settings) -> AsyncIterator[tuple[int, bytes | None]]:
    """Number and bytes of each record, in the order of the log; None is a tombstone of a deleted version.

    A version is published with the learner's state, and once more without it when the next version comes.
    TopicsError where the topic does not exist.
    """
    async for record in single_partition(settings, settings.topic("models")):
        yield int(record.key), record.value


async def read_versions(settings: Settings) -> dict[int, Version]:
    """The versions that are not deleted, by ascending number, without the learner's state.

    StateError where one of them cannot be read.
    """
    latest: dict[int, Version | StateError] = {}
    async for number, data in read(settings):
        if data is None:
            latest.pop(number, None)
            continue
        try:
            latest[number] = without_learner_state(parse(data, f"model version {number}"))
        except StateError as error:  # raised below, unless a later record replaces or deletes the version
            latest[number] = error
    versions: dict[int, Version] = {}
    for number, version in sorted(latest.items()):
        if isinstance(version, StateError):
            raise version
        versions[number] = version
    return versions


async def read_copies(settings: Settings, number: int) -> list[bytes]:
    """The records of one version that the log still has: with the learner's state, without it, or both.

    DataError where there is no such version.
    """
    copies: list[bytes] = []
    async for record_number, data in read(settings):
        if record_number == number:
            copies = [] if data is None else [*copies, data]
    if not copies:
        raise DataError(f"there is no model version {number}")
    return copies


def parse(data: bytes, name: str) -> Version:
    """Decode a version. StateError, which begins with `name`, where it cannot be read."""
    try:
        return loads(data)
    except ValueError as error:
        raise StateError(f"{name} cannot be read: {error}") from None


def without_learner_state(version: Version) -> Version:
    """The version as it is published again when the next one comes."""
    return msgspec.structs.replace(version, state=b"")


def select(versions: dict[int, Version], number: int | None = None) -> Version:
    """A version by number; the newest where no number is given. DataError where it does not exist."""
    if not versions:
        raise DataError("there is no model version yet")
    chosen = max(versions) if number is None else number
    if chosen not in versions:
        raise DataError(f"there is no model version {chosen}: there are {min(versions)} to {max(versions)}")
    return versions[chosen]


def write_file(path: Path, data: bytes) -> None:
    """Write a file by way of a temporary one, so that it is never incomplete. DataError where that fails."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
