"""Events through the same code as the worker's, without Kafka, to what `training-rows` would hold of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from online_models.training_rows import TrainingRows
from state import features
from state.stores.memory import MemoryStore
from streams.config.factories import schema_of
from streams.config.settings import Settings
from streams.offline.event_files import FileRecord, read_events
from streams.processing.outputs import training_records
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.schemas.record_batch import RecordBatch
from tests.support.decoding import decoder

HOUR_MS = 3_600_000
WIDTH = 2 * features.R + len(features.PLAIN)
_TOPICS = Topics("segment-changes", "segments", "alerts", "dead-letters", "training-rows", "receipts")


def of_file(path: Path, timezone: str = "UTC") -> TrainingRows:
    """Of a file in shoal's own schema."""
    return taught([line for chunk in read_events(path, "shoal") for line in chunk], timezone)


def taught(
    events: Iterable[FileRecord], timezone: str = "UTC", *, hourly: int = 100_000, sweep: int = HOUR_MS
) -> TrainingRows:
    """Rows of events, which come in the order of their records' times; exits are swept every so many ms of them."""
    arrived = sorted(events, key=lambda line: line.timestamp)
    settings = Settings()
    schema, topics = schema_of(settings.sources[0], settings), settings.source_topics

    rule = PartitionConfig(timezone=timezone, training_hourly=hourly, training_key=b"tests", sources=tuple(topics))
    task = PartitionProcessor(rule, decoder(schema), MemoryStore(), _TOPICS, accept_rejects=True)
    ends = dict.fromkeys(topics, 0)
    keys: list[bytes] = []
    values: list[bytes] = []
    for part in _parts(arrived, sweep):
        for source, topic in enumerate(topics):
            mine = [line for line in part if int(line.bought) == source or len(topics) == 1]
            if mine:
                task.add(_batch(topic, ends[topic], mine))
                ends[topic] += len(mine)
        task.run(0, ends)
        while task.progress.sweeping or task.progress.swept < task.progress.watermark:
            task.sweep(10_000)
        cut = task.cut(0)
        for key, value, _ in cut.outputs.get((_TOPICS.training, 0), []) if cut else []:
            keys.append(key if isinstance(key, bytes) else b"")
            values.append(value if isinstance(value, bytes) else b"")
    return training_records.decode(keys, values, range(len(keys)), training_records.layout(features.NAMES), WIDTH)


def _parts(arrived: Sequence[FileRecord], span: int) -> Iterable[Sequence[FileRecord]]:
    part = np.array([line.timestamp for line in arrived], np.int64) // span
    edges = np.flatnonzero(np.diff(part)) + 1
    for a, b in zip([0, *edges.tolist()], [*edges.tolist(), len(arrived)], strict=True):
        yield arrived[a:b]


def _batch(topic: str, first: int, mine: Sequence[FileRecord]) -> RecordBatch:
    n = len(mine)
    return RecordBatch(
        topic,
        0,
        first,
        first + n - 1,
        list(range(first, first + n)),
        [line.key for line in mine],
        [line.value for line in mine],
        [line.timestamp for line in mine],
    )
