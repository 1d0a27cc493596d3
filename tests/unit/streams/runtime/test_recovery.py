"""The report of a recovery, and changelog records that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitoring.metrics import Metrics
from state.stores.rocksdb import Meta, RowStore
from streams.errors import RecoveryError, StateError
from streams.processing import progress
from streams.processing.progress import PROGRESS_KEY, Progress
from streams.runtime.partition import Partition
from streams.runtime.recovery import Recovery
from streams.schemas.record_batch import RecordBatch
from tests.build import stream
from tests.unit.streams.processing.test_partition_processor import Scene, play

TOPIC = "shop-shoal-state-changelog"
EVENTS = stream(np.random.default_rng(1), 30, 4)
ROW = next(iter(play(Scene(EVENTS, 30), [], [])[0].values()))


def batch(pairs: list[tuple[bytes | None, bytes | None]], first: int = 0) -> RecordBatch:
    n = len(pairs)
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    return RecordBatch(TOPIC, 3, first, first + n - 1, list(range(first, first + n)), keys, values, [0] * n)


@pytest.fixture
def partition(tmp_path: Path) -> Partition:
    store = RowStore(tmp_path / "3", Meta("shop-shoal", 3, 4), cache_rows=10)
    return Partition(3, store, None, Metrics())  # type: ignore[arg-type]


def test_rows_tombstones_and_progress_are_read(partition: Partition) -> None:
    progress_bytes = progress.dumps(Progress(ordinal=7))
    assert partition.recover(
        batch([(b"a", ROW), (b"b", ROW), (PROGRESS_KEY, progress_bytes), (b"\0later", b"?"), (b"a", None)])
    )
    assert partition.store.get_many([b"a", b"b", PROGRESS_KEY]) == [None, ROW, progress_bytes]
    assert partition.store.offset() == 5
    assert partition.recover(batch([(b"c", ROW)], first=5))
    assert not partition.recover(batch([(b"c", None)], first=5))  # of a recovery that a rebalance ended
    assert partition.store.get_many([b"c"]) == [ROW]
    with pytest.raises(StateError, match="continues at 7, the rows end at 6"):
        partition.recover(batch([(b"d", ROW)], first=7))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, ROW, "it has no key"),
        (b"", ROW, "it has no key"),
        (b"u", b"", "no row"),
        (b"u", b"{}", "no row"),
        (b"u", ROW[:-1], "no row"),
        (b"u", ROW + b"\0", "no row"),
        (b"u", b"\x63" + ROW[1:], "no row"),
        (PROGRESS_KEY, b"\xc1", "no progress"),
        (PROGRESS_KEY, None, "no progress"),
        (PROGRESS_KEY, progress.dumps(Progress(layout=99)), "layout 99"),
    ],
)
def test_a_record_that_cannot_be_read_ends_the_recovery_with_its_offset(
    partition: Partition, key: bytes | None, value: bytes | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    records = batch([(b"a", ROW), (key, value), (b"b", ROW)], first=0)
    with pytest.raises(RecoveryError) as caught:
        partition.recover(records)
    assert str(caught.value).startswith(f"{TOPIC}/3: the record at offset 1 cannot be read: ")
    assert reason in str(caught.value)
    assert "{}" not in str(caught.value)
    assert partition.store.offset() is None
    assert partition.recover(records, accept_loss=True)
    assert partition.store.get_many([b"a", b"b", b"u"]) == [ROW, ROW, None]
    assert "loss accepted" in capsys.readouterr().err


def test_the_report_names_the_position() -> None:
    recovery = Recovery(TOPIC, 60.0)
    assert recovery.describe() == "former owners are not fenced off yet"
    recovery.add_partition(0, 1_000, 11_000)
    recovery.add_partition(1, 0, 5_000)
    recovery.add_partition(2, 5, 5)
    recovery.advance(1, 5_000)
    recovery.advance(0, 2_000)
    assert (recovery.remaining, recovery.total) == (9_000, 15_000)
    assert recovery.describe() == f"{TOPIC}/0 at 2000 of 11000"
    assert recovery.report_line(2.0) == (
        "recovering partition 0: 6,000 of 15,000 changelog records, 3,000 a second, 3 s left"
    )
