"""Through Kafka = from the file = by SQL: every user, every windowed column, all cells.

`make verify DATA=FILE` runs this on a file of one's own in shoal's schema.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import duckdb
import pytest

from state.stores.memory import MemoryStore
from streams.kafka import changelog
from streams.offline import parquet
from streams.offline.backfill import backfill
from streams.offline.event_files import read_events
from streams.offline.replay import replay
from tests.processes import applied, deployment, wait_for, worker
from tests.support import window_oracle as oracle
from tests.support.events import month

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("SHOAL_VERIFY_DATA")
    return Path(given) if given else month.write(tmp_path_factory.mktemp("data") / "month.jsonl.gz", 1)


@pytest.fixture(scope="module")
def raw(data: Path) -> duckdb.DuckDBPyConnection:
    return oracle.load(data, 4)


def test_backfill_equals_sql_inside_the_month(
    data: Path, raw: duckdb.DuckDBPyConnection, tmp_path: Path, kafka: str, prefix: str
) -> None:
    settings = deployment(kafka, prefix)
    _, _, first, last = oracle.span(raw)
    for third in (1, 2):
        now = first + (last - first) * third // 3
        store = MemoryStore()
        rejects = backfill(settings, data, "shoal", store, tmp_path, now)
        parquet.write(tmp_path / "backfill.parquet", store.rows.items(), now)
        oracle.expected(raw, now, until=now)
        assert (rejects, oracle.differences(raw, tmp_path / "backfill.parquet")) == (0, {})


def test_snapshot_equals_backfill_equals_sql(
    data: Path, raw: duckdb.DuckDBPyConnection, tmp_path: Path, kafka: str, prefix: str
) -> None:
    settings = deployment(kafka, prefix)
    events, users, _, last = oracle.span(raw)
    assert replay(settings, read_events(data, "shoal"), allow_jumps=True) == events
    with worker(settings, tmp_path / "one"), worker(settings, tmp_path / "two"):
        wait_for(lambda: applied(settings) == events, "all events", 300)
    rows, _ = asyncio.run(changelog.read(settings))
    assert len(rows) == users
    filed = MemoryStore()
    backfill(settings, data, "shoal", filed, tmp_path)
    for later in (0, 50 * oracle.MINUTE, 3 * oracle.DAY):
        now = last + later
        parquet.write(tmp_path / "snapshot.parquet", rows.items(), now)
        parquet.write(tmp_path / "backfill.parquet", filed.rows.items(), now)
        oracle.expected(raw, now)
        assert oracle.differences(raw, tmp_path / "snapshot.parquet") == {}
        assert oracle.differences(raw, tmp_path / "backfill.parquet") == {}
    both = [(tmp_path / name / "worker.log").read_text() for name in ("one", "two")]
    assert all("shoal: worker on" in log for log in both)
