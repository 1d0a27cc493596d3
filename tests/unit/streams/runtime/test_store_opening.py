"""States of a local store at a start: of another deployment, stale, damaged, or of a changelog that lost records."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from state.stores.database import block_cache
from state.stores.rocksdb import Meta, RowStore
from streams.config.settings import Settings, load
from streams.errors import LossError, StateError
from streams.processing import progress
from streams.processing.progress import PROGRESS_KEY, Progress
from streams.runtime.log_bounds import LogBounds
from streams.runtime.store_opening import open_store
from tests.rocks import biggest, flip

DAY = 24 * 3_600_000
NOW = 1_800_000_000_000
CACHE = block_cache(8)
MINE = Meta("shop-shoal", 0, 4, changelog="first")
AT = ("shop-shoal-state-changelog", 0)
BOUNDS = LogBounds({AT[0]: "first"}, {AT: 0}, {AT: 100}, {}, 7 * DAY)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(environ={}, prefix="shop-", **{"state.datadir": str(tmp_path)})


def write_store(path: Path, meta: Meta = MINE, *, wall: int = NOW, rows: int = 20_000, offset: int = 90) -> None:
    """Write a store as a worker leaves it."""
    store = RowStore(path, meta, cache_rows=10)
    some = {b"user-%06d" % i: os.urandom(200) for i in range(rows)}
    store.write_flush({**some, PROGRESS_KEY: progress.dumps(Progress(wall=wall))}, offset)
    store.close()


def opened(settings: Settings, bounds: LogBounds = BOUNDS, *, accept_loss: bool = False, now: int = NOW) -> RowStore:
    return open_store(settings, 0, bounds, cache_rows=1_000, block_cache=CACHE, accept_loss=accept_loss, now=now)


def content(store: RowStore) -> tuple[int, int | None]:
    found = len(store.scan(None, 1 << 30)), store.offset()
    store.close()
    return found


def test_a_store_that_matches_the_changelog_is_kept(settings: Settings, tmp_path: Path) -> None:
    write_store(tmp_path / "0")
    assert content(opened(settings)) == (20_000, 90)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Meta("bar-shoal", 0, 4), "holds partition 0 of 4 of 'bar-shoal', expected partition 0 of 4 of 'shop-shoal'"),
        (Meta("shop-shoal", 1, 4), "holds partition 1 of 4"),
        (Meta("shop-shoal", 0, 8), "holds partition 0 of 8"),
        (Meta("shop-shoal", 0, 4, layout=MINE.layout + 1), "holds rows of layout"),
    ],
)
def test_a_foreign_store_is_refused_and_not_changed(
    settings: Settings, tmp_path: Path, other: Meta, message: str
) -> None:
    write_store(tmp_path / "0", other, rows=10)
    for accept in (False, True):
        with pytest.raises(StateError, match=message):
            opened(settings, accept_loss=accept)
    store = RowStore(tmp_path / "0", other, cache_rows=10)
    assert content(store) == (10, 90)


def test_a_store_of_an_earlier_version_is_used(settings: Settings, tmp_path: Path) -> None:
    """It does not name the changelog, and has rows of an earlier layout (each row names its own)."""
    write_store(tmp_path / "0", meta_with(layout=MINE.layout - 1, changelog=""), rows=10)
    assert content(opened(settings)) == (10, 90)
    with pytest.raises(LossError, match="another changelog"):  # the open before stored the id
        opened(settings, replace(BOUNDS, topic_ids={AT[0]: "second"}))


def meta_with(**other: Any) -> Meta:
    return Meta(**{"deployment": "shop-shoal", "partition": 0, "partitions": 4, **other})


def test_rows_of_another_changelog(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_store(tmp_path / "0", rows=10)
    second = replace(BOUNDS, topic_ids={AT[0]: "second"})
    for _ in range(2):
        with pytest.raises(LossError, match="rows of another changelog topic of the same name; --accept-loss"):
            opened(settings, second)
    assert content(opened(settings, second, accept_loss=True)) == (0, None)
    assert "shoal: loss accepted: " in capsys.readouterr().err


def test_a_changelog_that_lost_its_end(settings: Settings, tmp_path: Path) -> None:
    write_store(tmp_path / "0", rows=10)
    short = replace(BOUNDS, ends={AT: 89})
    with pytest.raises(LossError, match=r"ends at 89, .* is at 90"):
        opened(settings, short)
    assert content(opened(settings, short, accept_loss=True)) == (0, None)


@pytest.mark.parametrize(("rows", "offset"), [(10, 90), (0, 0)])
def test_a_changelog_that_lost_its_start(settings: Settings, tmp_path: Path, rows: int, offset: int) -> None:
    if rows:
        write_store(tmp_path / "0", rows=rows)
    late = replace(BOUNDS, starts={AT: 95})
    with pytest.raises(LossError, match=f"starts at 95, .* is at {offset}"):
        opened(settings, late)
    assert content(opened(settings, late, accept_loss=True)) == (rows, 95)


def test_a_stale_disk_is_rebuilt(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Older than half of the changelog's delete.retention.ms: a tombstone may have been compacted away since."""
    write_store(tmp_path / "0", wall=NOW - 7 * DAY // 2 + 1, rows=10)
    assert content(opened(settings)) == (10, 90)
    assert content(opened(settings, now=NOW + 2)) == (0, None)
    assert "delete.retention.ms ago: rebuilt" in capsys.readouterr().err


def test_an_idle_partition_that_was_complete_lately_is_not_stale(settings: Settings, tmp_path: Path) -> None:
    write_store(tmp_path / "0", wall=NOW - 30 * DAY, rows=10)
    store = RowStore(tmp_path / "0", MINE, cache_rows=10)
    store.note_complete(NOW - DAY)  # a recovery had read the whole changelog
    store.close()
    assert content(opened(settings)) == (10, 90)


def test_an_incomplete_recovery_continues_until_it_is_stale(settings: Settings) -> None:
    """Its age counts from its start with an empty store, however often it continued: rows of users erased since then
    may have been read."""
    store = opened(settings)
    store.apply([b"a"], [b"1"], 5)
    store.close()
    for days in (1, 3):
        assert content(opened(settings, now=NOW + days * DAY)) == (1, 5)
    assert content(opened(settings, now=NOW + 4 * DAY)) == (0, None)


def test_rows_of_unknown_age_are_stale(settings: Settings, tmp_path: Path) -> None:
    """An open changes the files' modification times, so those do not count."""
    store = RowStore(tmp_path / "0", MINE, cache_rows=10)
    store.apply([b"a"], [b"1"], 5)
    store.close()
    assert content(opened(settings, now=int(time.time() * 1000))) == (0, None)


def footer(path: Path) -> None:
    flip(path, -20)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: footer(biggest(path)),
        lambda path: cut_short(biggest(path)),
        lambda path: biggest(path).unlink(),
        lambda path: next(path.glob("MANIFEST*")).unlink(),
        lambda path: flip(next(path.glob("MANIFEST*")), 100),
        lambda path: (path / "CURRENT").unlink(),
        lambda path: (path / "CURRENT").write_text("?"),
    ],
    ids=["footer", "cut short", "missing", "no manifest", "manifest", "no CURRENT", "CURRENT"],
)
def test_a_store_that_is_damaged_at_the_open_is_set_aside(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], Any]
) -> None:
    write_store(tmp_path / "0")
    damage(tmp_path / "0")
    assert content(opened(settings)) == (0, None)
    assert (tmp_path / "0.aside-1").is_dir()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"set aside as {tmp_path}/0.aside-1, partition 0 is rebuilt from the changelog" in line
    write_store(tmp_path / "0")
    assert content(opened(settings)) == (20_000, 90)


def test_at_most_two_broken_stores_are_kept(settings: Settings, tmp_path: Path) -> None:
    for _ in range(5):
        write_store(tmp_path / "0", rows=1_000)
        footer(biggest(tmp_path / "0"))
        opened(settings).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "0.aside-4", "0.aside-5"]


def test_a_store_in_use_is_refused(settings: Settings, tmp_path: Path) -> None:
    store = opened(settings)
    with pytest.raises(StateError, match=r"(?i)lock"):
        opened(settings)
    store.close()
    assert content(opened(settings)) == (0, None)  # it was not marked as broken
