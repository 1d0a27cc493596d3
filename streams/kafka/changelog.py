"""The changelog as committed: every user's row, one user's, or the partitions' progress alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from state import rows
from streams.config.settings import Settings
from streams.errors import RecoveryError
from streams.kafka.client_options import aiokafka_options
from streams.kafka.fetch import FETCH_WAIT_MS, drain, unpack
from streams.kafka.reader import reading, started, to_end
from streams.processing import progress
from streams.processing.partitioner import partitions_of
from streams.processing.progress import PROGRESS_KEY, Progress, Serial
from streams.schemas.record_batch import RecordBatch

TAIL = 200  # records from the end in which a progress record is looked for first: each flush ends with one
FETCH_BYTES = 1 << 20  # of each partition, in a recovery


async def read(settings: Settings) -> tuple[dict[bytes, bytes], dict[int, Progress]]:
    """Rows by user, and the progress of each partition, up to the changelog's end."""
    users: dict[bytes, bytes] = {}
    found: dict[int, bytes] = {}  # of each partition the last counts alone
    async for record in _records(settings, range(settings.topics.partitions)):
        if record.key == PROGRESS_KEY:
            found[record.partition] = record.value
        elif record.value is None:
            users.pop(record.key, None)
        else:
            users[record.key] = record.value
    return users, _decoded(found)


async def read_user(settings: Settings, key: bytes) -> tuple[bytes | None, Progress]:
    """One user's row, None where there is none, and the progress of the partition."""
    row, found = None, b""
    async for record in _records(settings, [int(partitions_of([key], settings.topics.partitions)[0])]):
        if record.key == PROGRESS_KEY:
            found = record.value
        elif record.key == key:
            row = record.value
    return row, progress.loads(found) if found else Progress()


async def read_progress(settings: Settings) -> dict[int, Progress]:
    """The progress of each partition that has one, from the ends of their logs."""
    return _decoded(await _newest(settings, range(settings.topics.partitions)))


async def newest_serials(settings: Settings, partitions: Iterable[int]) -> dict[int, Serial]:
    """Which progress is the newest of each of these partitions, from the ends of their logs; a partition without one,
    and one whose newest cannot be read, is left out."""
    serials: dict[int, Serial] = {}
    for partition, value in (await _newest(settings, partitions)).items():
        with suppress(ValueError):
            serials[partition] = progress.loads(value or b"").serial
    return serials


async def _newest(settings: Settings, partitions: Iterable[int]) -> dict[int, bytes]:
    """The newest progress record of each partition that has one."""
    found: dict[int, bytes] = {}
    left, tail = set(partitions), TAIL
    while left:
        whole: set[int] = set()
        async for record in _records(settings, sorted(left), tail, whole):
            if record.key == PROGRESS_KEY:
                found[record.partition] = record.value
        left -= found.keys() | whole
        tail *= 16
    return found


@asynccontextmanager
async def batches(settings: Settings, starts: Mapping[int, int]) -> AsyncIterator[AsyncIterator[RecordBatch]]:
    """The changelog of some partitions as whole record batches, each from an offset on, without an end.

    RecoveryError where an offset is not in the log any more, or a batch cannot be read.
    """
    consumer = AIOKafkaConsumer(
        **aiokafka_options(settings),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=FETCH_WAIT_MS,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    async with started(consumer, settings):
        consumer.assign([TopicPartition(settings.changelog, number) for number in starts])
        for number, offset in starts.items():
            consumer.seek(TopicPartition(settings.changelog, number), offset)
        yield _batches(consumer, settings.state.max_poll_records)


async def _batches(consumer: AIOKafkaConsumer, limit: int) -> AsyncIterator[RecordBatch]:
    while True:
        try:
            found = await drain(consumer, (), timeout=1.0, limit=limit, unpack=_unpacked)
        except OffsetOutOfRangeError as error:
            raise RecoveryError(f"the changelog was cut while it was read: {error}") from error
        for batch in found.values():
            yield batch


def _unpacked(tp: Any, result: Any, limit: int) -> RecordBatch | None:
    try:
        return unpack(tp, result, limit)
    except Exception as error:
        at = result._partition_records.next_fetch_offset
        raise RecoveryError(f"{tp.topic}/{tp.partition}: the batch at offset {at} cannot be read: {error!r}") from error


def _decoded(found: dict[int, bytes]) -> dict[int, Progress]:
    return {partition: progress.loads(value or b"") for partition, value in found.items()}


def unreadable(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> dict[int, str]:
    """Index → reason of records that are neither a row, nor a tombstone, nor a progress of this version.

    Of the progress records the last one counts alone. What else has a reserved key is passed over.
    """
    bad = {i: "it has no key" for i, key in enumerate(keys) if not key}
    last = next((i for i in range(len(keys) - 1, -1, -1) if keys[i] == PROGRESS_KEY), None)
    if last is not None:
        try:
            progress.loads(values[last] or b"")
        except ValueError as error:
            bad[last] = str(error)
    users = [i for i, key in enumerate(keys) if key and key[:1] != b"\x00" and values[i] is not None]
    for i in rows.unreadable([values[i] or b"" for i in users]):
        bad[users[i]] = "its value is no row that this version reads"
    return bad


async def _records(
    settings: Settings, partitions: Iterable[int], tail: int | None = None, whole: set[int] | None = None
) -> AsyncIterator[Any]:
    """Records of partitions in turn, each up to the end found at the start, the last `tail` of them alone where that
    is given; `whole` gathers the partitions that were read from their start."""
    async with reading(settings) as consumer:
        tps = [TopicPartition(settings.changelog, number) for number in partitions]
        consumer.assign(tps)
        first = starts = await consumer.beginning_offsets(tps)
        if tail is not None:
            ends = await consumer.end_offsets(tps)
            starts = {tp: max(first[tp], ends[tp] - tail) for tp in tps}
        if whole is not None:
            whole |= {tp.partition for tp in tps if starts[tp] == first[tp]}
        async for record in to_end(consumer, starts):
            yield record
