"""A file's records through the same code as the worker's, without Kafka: every user's row as of the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from state.stores.memory import MemoryStore
from streams.config.factories import file_schema, partition_config
from streams.config.settings import Settings
from streams.offline.event_files import FileRecord, read_records
from streams.processing.output_buffer import Topics
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.partitioner import partitions_of
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import Schema, decoder

_NOWHERE = Topics("segment-changes", "segments", "alerts", "dead-letters", "training-rows", "commands-results")


def backfill(
    settings: Settings,
    path: Path,
    schema: str,
    until: int | None = None,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[dict[bytes, bytes], int]:
    """Rows by user after the events up to `until` (ms; None: all), and how many records were rejected.

    schema: of the file, a name of the registry. Records are split into partitions and sources and merged by time as the
    worker would find them in topics that were filled first. No clock is looked at.
    """
    return apply_records(settings, read_records(path, schema), file_schema(schema, settings), until, progress)


def apply_records(
    settings: Settings,
    chunks: Iterable[list[FileRecord]],
    schema: Schema,
    until: int | None,
    progress: Callable[[int], None],
) -> tuple[dict[bytes, bytes], int]:
    """The same over chunks of records in a schema."""
    partitions, topics = settings.topics.partitions, settings.source_topics
    logs: dict[tuple[int, int], list[FileRecord]] = defaultdict(list)
    count = 0
    for chunk in chunks:
        numbers = partitions_of([record.key for record in chunk], partitions).tolist()
        for record, partition in zip(chunk, numbers, strict=True):
            if until is None or record.timestamp <= until:
                source = 1 if record.bought and len(topics) > 1 else 0
                logs[partition, source].append(record)
        count += len(chunk)
        progress(count)
    rows: dict[bytes, bytes] = {}
    rejects = 0
    decode = decoder([schema] * len(topics), use_clock=False)
    for partition in range(partitions):
        store = MemoryStore()
        processor = PartitionProcessor(
            partition_config(settings, partition), decode, store, _NOWHERE, accept_rejects=True
        )
        for source, topic in enumerate(topics):
            log = logs.pop((partition, source), [])
            if log:
                processor.add(_fetch(topic, partition, log))
        processor.run(0, dict(processor.queued_ends()))
        rejects += sum(number for name, number in processor.counts.items() if name.startswith("reject:"))
        rows.update(store.rows)
    return rows, rejects


def _fetch(topic: str, partition: int, log: list[FileRecord]) -> RecordBatch:
    """All records of a partition in one fetch."""
    return RecordBatch(
        topic,
        partition,
        0,
        len(log) - 1,
        list(range(len(log))),
        [record.key for record in log],
        [record.value for record in log],
        [record.timestamp for record in log],
    )
