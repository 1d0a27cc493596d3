"""A file's records through the same code as the worker's, without Kafka: every user's row as of the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from streams.config.factories import file_schema, partition_config
from streams.config.settings import Settings
from streams.offline.event_files import FileRecord, read_records
from streams.offline.record_log import RecordLog
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.partition_state import Store
from streams.processing.partitioner import partitions_of
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import Decode, Schema, decoder

FETCH = 5_000  # records of a source at a time
_NOWHERE = Topics("segment-changes", "segments", "alerts", "dead-letters", "training-rows", "commands-results")


def backfill(
    settings: Settings,
    path: Path,
    schema: str,
    store: Store,
    folder: Path,
    until: int | None = None,
) -> int:
    """Put the rows of all users into a store, after the events up to `until` (ms; None: all); how many records were
    rejected.

    schema: of the file, a name of the registry. folder: for temporary files, which take as much as the events without
    compression; they are deleted unless there is an error. Records are split into partitions and sources and merged by
    time as the worker would find them in topics that were filled first. No clock is looked at.
    """
    return apply_records(settings, read_records(path, schema), file_schema(schema, settings), store, folder, until)


def apply_records(
    settings: Settings,
    chunks: Iterable[list[FileRecord]],
    schema: Schema,
    store: Store,
    folder: Path,
    until: int | None = None,
) -> int:
    """The same over chunks of records in a schema."""
    partitions, topics = settings.topics.partitions, settings.source_topics
    decode = decoder([schema] * len(topics), use_clock=False)
    rejects = 0
    logs = {
        (partition, source): RecordLog(folder / f"{partition}-{source}")
        for partition in range(partitions)
        for source in range(len(topics))
    }
    _split(chunks, logs, partitions, len(topics), until)
    for partition in range(partitions):
        mine = {topic: logs[partition, source] for source, topic in enumerate(topics)}
        rejects += _apply_partition(settings, partition, mine, decode, store)
    return rejects


def _split(
    chunks: Iterable[list[FileRecord]],
    logs: dict[tuple[int, int], RecordLog],
    partitions: int,
    sources: int,
    until: int | None,
) -> None:
    """Append each record to the log of its partition and source."""
    for chunk in chunks:
        numbers = partitions_of([record.key for record in chunk], partitions).tolist()
        parts: dict[tuple[int, int], list[FileRecord]] = defaultdict(list)
        for record, partition in zip(chunk, numbers, strict=True):
            if until is None or record.timestamp <= until:
                parts[partition, 1 if record.bought and sources > 1 else 0].append(record)
        for place, records in parts.items():
            logs[place].append(records)


def _apply_partition(
    settings: Settings, partition: int, logs: dict[str, RecordLog], decode: Decode, store: Store
) -> int:
    """Apply the logs of a partition, by topic, and delete them; how many records were rejected."""
    processor = PartitionProcessor(partition_config(settings, partition), decode, store, _NOWHERE, accept_rejects=True)
    fetches = {topic: _fetches(topic, partition, log) for topic, log in logs.items()}
    ends = {topic: log.size for topic, log in logs.items()}
    while fetches:
        full = processor.full_topics()  # wait for the other source
        for topic in [topic for topic in fetches if topic not in full]:
            fetch = next(fetches[topic], None)
            if fetch is None:
                del fetches[topic]
            else:
                processor.add(fetch)
        processor.run(0, ends)
        processor.cut(0)  # its outputs go nowhere
    for log in logs.values():
        log.delete()
    return sum(number for name, number in processor.counts.items() if name.startswith("reject:"))


def _fetches(topic: str, partition: int, log: RecordLog) -> Iterator[RecordBatch]:
    first = 0
    for records in log.chunks(FETCH):
        size = len(records)
        yield RecordBatch(
            topic,
            partition,
            first,
            first + size - 1,
            list(range(first, first + size)),
            [record.key for record in records],
            [record.value for record in records],
            [record.timestamp for record in records],
        )
        first += size
