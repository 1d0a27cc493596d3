"""A backfill in pieces, with its records and rows on the disk, gives what all of it at once in memory gives."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from state.stores import scratch
from state.stores.memory import MemoryStore
from state.stores.scratch import ScratchRows
from streams.config.factories import partition_config
from streams.config.settings import Settings, load
from streams.kafka import changelog
from streams.offline import backfill, feature_table, parquet
from streams.offline.event_files import FileRecord, read_records
from streams.offline.record_log import RecordLog
from streams.offline.scratch_folder import scratch_folder
from streams.processing import input_buffer
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.partitioner import partitions_of
from streams.processing.progress import PROGRESS_KEY
from streams.schemas.flat_json import FlatJson
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import decoder
from tests.support.events.month import write


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("month") / "month.jsonl.gz", seed=3, visits=400, users=150)


def at_once(settings: Settings, path: Path, until: int | None) -> tuple[dict[bytes, bytes], int]:
    """One fetch for each source of each partition."""
    logs: dict[tuple[int, int], list[FileRecord]] = defaultdict(list)
    for chunk in read_records(path, "shoal"):
        for record, partition in zip(chunk, partitions_of([one.key for one in chunk], 3).tolist(), strict=True):
            if until is None or record.timestamp <= until:
                logs[partition, int(record.bought)].append(record)
    rows: dict[bytes, bytes] = {}
    rejects = 0
    for partition in range(3):
        store, topics = MemoryStore(), settings.source_topics
        task = PartitionProcessor(
            partition_config(settings, partition),
            decoder([FlatJson()] * len(topics), use_clock=False),
            store,
            Topics("c", "s", "a", "d", "t", "r"),
            accept_rejects=True,
        )
        for source, topic in enumerate(topics):
            if log := logs[partition, source]:
                offsets, values = list(range(len(log))), [one.value for one in log]
                keys, times = [one.key for one in log], [one.timestamp for one in log]
                task.add(RecordBatch(topic, partition, 0, len(log) - 1, offsets, [*keys], [*values], times))
        task.run(0, dict(task.queued_ends()))
        rows |= store.rows
        rejects += sum(count for name, count in task.counts.items() if name.startswith("reject:"))
    return rows, rejects


@pytest.mark.parametrize("part", [None, 0.4])
def test_pieces_on_the_disk_give_the_rows_of_all_at_once(
    month: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: float | None
) -> None:
    monkeypatch.setattr(backfill, "FETCH", 50)
    monkeypatch.setattr(input_buffer, "QUEUE", 120)  # so that the clicks wait for the purchases
    monkeypatch.setattr(scratch, "WRITE_ROWS", 30)
    settings = load(environ={}, **{"topics.partitions": 3})
    times = [record.timestamp for chunk in read_records(month, "shoal") for record in chunk]
    until = None if part is None else int(np.quantile(times, part))
    expected, rejects = at_once(settings, month, until)
    assert len(expected) > 30
    output = tmp_path / "out.parquet"
    with scratch_folder(output) as folder, closing(ScratchRows(folder / "rows")) as rows:
        assert backfill.backfill(settings, month, "shoal", rows, folder, until) == rejects
        assert list(rows.items()) == sorted(expected.items())
        now = feature_table.latest(row for _, row in rows.items())
        assert parquet.write(output, rows.items(), now) == len(expected)
    assert list(tmp_path.iterdir()) == [output]  # nothing else is left there
    parquet.write(tmp_path / "expected.parquet", sorted(expected.items()), now)
    assert output.read_bytes() == (tmp_path / "expected.parquet").read_bytes()


def test_a_log_of_records_gives_back_what_was_appended(tmp_path: Path) -> None:
    records = [FileRecord(b"u%d" % i, b"\0" * i, i, i % 2 == 0) for i in range(10)]
    log = RecordLog(tmp_path / "log")
    assert list(log.chunks(3)) == []
    for first, end in ((0, 2), (2, 6), (6, 7), (7, 10)):
        log.append(records[first:end])
    assert (log.size, list(log.chunks(3))) == (10, [records[:6], records[6:]])
    log.delete()
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_has_the_last_row_of_each_user_who_was_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [(b"a", b"1"), (PROGRESS_KEY, b"p"), (b"c", b"2"), (b"a", b"3"), (b"b", b"4"), (b"c", None)]

    async def records(*_: object) -> AsyncIterator[Any]:
        for key, value in written:
            yield SimpleNamespace(key=key, value=value, partition=0)

    monkeypatch.setattr(changelog, "_records", records)
    with closing(ScratchRows(tmp_path / "rows")) as rows:
        asyncio.run(changelog.copy_rows(load(environ={}), rows.put_many))
        assert list(rows.items()) == [(b"a", b"3"), (b"b", b"4")]
