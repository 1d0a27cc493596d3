"""Reads the changelog topic: the rows of all users or of one, the partitions' progress, or whole record batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
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

TAIL_RECORDS = 200  # searched first for a progress record, from a partition's end: each flush ends with one
TAIL_GROWTH = 16  # factor by which a search that finds none is extended
FETCH_BYTES = 1 << 20  # per partition, in a recovery


async def read(settings: Settings) -> tuple[dict[bytes, bytes], dict[int, Progress]]:
    """The committed rows by user id, and the progress by partition, up to the end of the changelog."""
    user_rows: dict[bytes, bytes] = {}
    progress_values: dict[int, bytes] = {}  # a later progress record replaces an earlier one
    async for record in _records(settings, range(settings.topics.partitions)):
        if record.key == PROGRESS_KEY:
            progress_values[record.partition] = record.value
        elif record.value is None:
            user_rows.pop(record.key, None)
        else:
            user_rows[record.key] = record.value
    return user_rows, _decode_progress(progress_values)


async def copy_rows(settings: Settings, put: Callable[[Mapping[bytes, bytes | None]], None]) -> None:
    """Pass each committed change of a user's row to `put`, in the order of the changelog, up to its end; None: the row
    was deleted."""
    async for record in _records(settings, range(settings.topics.partitions)):
        if record.key != PROGRESS_KEY:
            put({record.key: record.value})


async def read_user(settings: Settings, key: bytes) -> tuple[bytes | None, Progress]:
    """The row of one user (None where there is none), and the progress of the user's partition."""
    partition = int(partitions_of([key], settings.topics.partitions)[0])
    row: bytes | None = None
    progress_value = b""
    async for record in _records(settings, [partition]):
        if record.key == PROGRESS_KEY:
            progress_value = record.value
        elif record.key == key:
            row = record.value
    return row, progress.loads(progress_value) if progress_value else Progress()


async def read_progress(settings: Settings) -> dict[int, Progress]:
    """The progress of each partition that has one, read from the ends of the partitions."""
    return _decode_progress(await _newest_progress(settings, range(settings.topics.partitions)))


async def newest_serials(settings: Settings, partitions: Iterable[int]) -> dict[int, Serial]:
    """The serial of the newest progress record of each partition, read from the ends of the partitions.

    A partition without a progress record, or with an unreadable one, is left out.
    """
    serials: dict[int, Serial] = {}
    for partition, value in (await _newest_progress(settings, partitions)).items():
        with suppress(ValueError):
            serials[partition] = progress.loads(value or b"").serial
    return serials


async def _newest_progress(settings: Settings, partitions: Iterable[int]) -> dict[int, bytes]:
    """The newest progress record of each partition that has one.

    Reads the last TAIL_RECORDS records of each partition. Where these hold no progress record, it reads a longer tail,
    until it finds one or has read the partition from its start.
    """
    values: dict[int, bytes] = {}
    remaining, tail = set(partitions), TAIL_RECORDS
    while remaining:
        read_whole: set[int] = set()
        async for record in _records(settings, sorted(remaining), tail, read_whole):
            if record.key == PROGRESS_KEY:
                values[record.partition] = record.value
        remaining -= values.keys() | read_whole
        tail *= TAIL_GROWTH
    return values


def _decode_progress(values: dict[int, bytes]) -> dict[int, Progress]:
    return {partition: progress.loads(value or b"") for partition, value in values.items()}


async def _records(
    settings: Settings, partitions: Iterable[int], tail: int | None = None, read_whole: set[int] | None = None
) -> AsyncIterator[Any]:
    """The records of the partitions, one partition after another, each up to the end that it has at the start.

    tail: read only the last `tail` offsets of each partition. read_whole: the partitions that are read from their
    first record on are added to it.
    """
    async with reading(settings) as consumer:
        tps = [TopicPartition(settings.changelog, number) for number in partitions]
        consumer.assign(tps)
        first_offsets = starts = await consumer.beginning_offsets(tps)
        if tail is not None:
            ends = await consumer.end_offsets(tps)
            starts = {tp: max(first_offsets[tp], ends[tp] - tail) for tp in tps}
        if read_whole is not None:
            read_whole |= {tp.partition for tp in tps if starts[tp] == first_offsets[tp]}
        async for record in to_end(consumer, starts):
            yield record


@asynccontextmanager
async def batches(settings: Settings, starts: Mapping[int, int]) -> AsyncIterator[AsyncIterator[RecordBatch]]:
    """An endless stream of record batches of the changelog, each partition from its offset in `starts` on.

    RecoveryError where an offset is no longer in the log, or a batch cannot be read.
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
        yield _stream_batches(consumer, settings.state.max_poll_records)


async def _stream_batches(consumer: AIOKafkaConsumer, limit: int) -> AsyncIterator[RecordBatch]:
    while True:
        try:
            fetched = await drain(consumer, (), timeout=1.0, limit=limit, unpack=_unpack_or_fail)
        except OffsetOutOfRangeError as error:
            raise RecoveryError(f"the changelog was cut while it was read: {error}") from error
        for batch in fetched.values():
            yield batch


def _unpack_or_fail(tp: Any, result: Any, limit: int) -> RecordBatch | None:
    try:
        return unpack(tp, result, limit)
    except Exception as error:
        offset = result._partition_records.next_fetch_offset
        raise RecoveryError(
            f"{tp.topic}/{tp.partition}: the batch at offset {offset} cannot be read: {error!r}"
        ) from error


def unreadable(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> dict[int, str]:
    """Find records that this version cannot read: index -> reason.

    A readable record is a user's row, a tombstone, or a progress record. Only the last progress record is checked,
    because only that one is used. Other records with a reserved key (first byte 0) are ignored.
    """
    reasons = {i: "it has no key" for i, key in enumerate(keys) if not key}
    last_progress = next((i for i in range(len(keys) - 1, -1, -1) if keys[i] == PROGRESS_KEY), None)
    if last_progress is not None:
        try:
            progress.loads(values[last_progress] or b"")
        except ValueError as error:
            reasons[last_progress] = str(error)
    row_indices = [i for i, key in enumerate(keys) if key and key[:1] != b"\x00" and values[i] is not None]
    for i in rows.unreadable([values[i] or b"" for i in row_indices]):
        reasons[row_indices[i]] = "its value is no row that this version reads"
    return reasons
