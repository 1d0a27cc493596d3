"""Rows through the cache and on disk."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from state.store import BrokenStore, ForeignStore, Meta, RowStore
from tests.rocks import biggest, flip

META = Meta("shoal", 0, 4)


def test_written_rows_are_there_again(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "0", META, cache_rows=10)
    assert store.get_many([b"a"]) == [None]
    assert store.offset() is None
    store.put_many({b"a": b"1", b"b": b"2"})
    store.written({b"a": b"1", b"b": b"2", b"\0progress": b"p"}, 7)
    store.put_many({b"b": b"3"})  # not written
    store.close()
    store = RowStore(tmp_path / "0", META, cache_rows=10)
    assert store.get_many([b"a", b"b", b"\0progress"]) == [b"1", b"2", b"p"]
    assert store.offset() == 7
    assert store.scan(None, 10) == [b"a", b"b"]
    assert store.scan(b"a", 10) == [b"b"]
    store.written({b"a": None}, 8)
    assert store.scan(None, 10) == [b"b"]
    store.close()


def test_a_change_is_kept_until_it_is_written(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "0", META, cache_rows=16)
    store.put_many({b"hot": b"new"})
    for i in range(200):
        store.get_many([b"%d" % i])
    assert store.get_many([b"hot"]) == [b"new"]
    old = b"first"
    store.put_many({b"x": old})
    store.put_many({b"x": b"second"})
    store.written({b"x": old}, 1)
    for i in range(200):
        store.get_many([b"%d" % i])
    assert store.get_many([b"x"]) == [b"second"]
    store.close()


def test_a_recovery_is_seen_though_the_progress_was_read_before(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "0", META, cache_rows=10)
    store.apply([b"\0progress"], [b"old"], 1)
    assert store.get_many([b"\0progress"]) == [b"old"]
    store.apply([b"\0progress"], [b"new"], 2)
    assert store.get_many([b"\0progress"]) == [b"new"]


def test_another_deployments_rows_are_refused(tmp_path: Path) -> None:
    RowStore(tmp_path / "0", META, cache_rows=10).close()
    with pytest.raises(ForeignStore, match="other"):
        RowStore(tmp_path / "0", Meta("other", 0, 4), cache_rows=10)


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.get_many([b"%06d" % i for i in range(20_000)]),
        lambda store: store.scan(None, 1 << 30),
        lambda store: [store.scan(b"%06d" % i, 100) for i in range(0, 20_000, 100)],
    ],
    ids=["get", "scan", "scan in pieces"],
)
def test_a_flipped_byte_is_never_read_as_rows(tmp_path: Path, read: Callable[[RowStore], object]) -> None:
    """Nor as the end of them; the next open finds the mark, whatever the process did meanwhile."""
    path = tmp_path / "0"
    store = RowStore(path, META, cache_rows=10)
    store.written({b"%06d" % i: os.urandom(200) for i in range(20_000)}, 1)
    store.close()
    flip(biggest(path), 200_000)
    store = RowStore(path, META, cache_rows=10)
    with pytest.raises(BrokenStore, match="checksum mismatch"):
        read(store)
    del store
    for _ in range(2):
        with pytest.raises(BrokenStore, match="checksum mismatch"):
            RowStore(path, META, cache_rows=10)
