"""A file's events through the same code as the worker's, without Kafka: every user's row as of the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from state.stores.memory import MemoryStore
from streams.config.factories import partition_config, schema_of
from streams.config.settings import Settings, SourceSettings
from streams.offline.event_files import Line, lines
from streams.processing.output_buffer import Topics
from streams.processing.partition_processor import Task
from streams.processing.partitioner import placed
from streams.schemas import flat_json
from streams.schemas.event_batch import EventBatch
from streams.schemas.record_batch import RecordBatch

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

    Events are split into partitions and sources and merged by time as the worker would find them in topics that
    were filled first. No clock is looked at.
    """
    return fold(settings, lines(path, schema), until, progress)


def fold(
    settings: Settings, chunks: Iterable[list[Line]], until: int | None, progress: Callable[[int], None]
) -> tuple[dict[bytes, bytes], int]:
    """The same over chunks of lines."""
    partitions, topics = settings.topics.partitions, settings.source_topics
    logs: dict[tuple[int, int], list[Line]] = defaultdict(list)
    read = 0
    for chunk in chunks:
        for line, partition in zip(chunk, placed([line.key for line in chunk], partitions).tolist(), strict=True):
            if until is None or line.timestamp <= until:
                source = 1 if line.bought and len(topics) > 1 else 0
                logs[partition, source].append(line)
        read += len(chunk)
        progress(read)
    rows: dict[bytes, bytes] = {}
    rejects = 0
    schema = schema_of(SourceSettings(name=topics[0]), settings)  # files are turned into shoal's own schema

    def decode(batch: RecordBatch, source: int, key_before: int, now: int | None) -> EventBatch:
        return flat_json.decode(batch, schema, source=source, key_before=key_before, now=None)

    for number in range(partitions):
        store = MemoryStore()
        task = Task(partition_config(settings, number), decode, store, _NOWHERE, accept_rejects=True)
        for source, topic in enumerate(topics):
            log = logs.pop((number, source), [])
            if log:
                task.offer(
                    RecordBatch(
                        topic,
                        number,
                        0,
                        len(log) - 1,
                        list(range(len(log))),
                        [line.key for line in log],
                        [line.value for line in log],
                        [line.timestamp for line in log],
                    )
                )
        task.run(0, dict(task.queued_ends()))
        rejects += sum(count for name, count in task.counts.items() if name.startswith("reject:"))
        rows.update(store.rows)
    return rows, rejects
