"""Rows in the cache and on the disk, the expiry index, and damaged files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from state import expiry_index, rows, windows
from state.stores.database import BrokenStore
from state.stores.rocksdb import INDEX_CHUNK, ForeignStore, Meta, RowStore
from state.vocabulary import VOCABULARY
from tests.rocks import biggest, flip

META = Meta("shoal", 0, 4)


def test_written_rows_are_found_after_a_reopen(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "0", META, cache_rows=10)
    assert store.get_many([b"a"]) == [None]
    assert store.offset() is None
    store.put_many({b"a": b"1", b"b": b"2"})
    store.write_flush({b"a": b"1", b"b": b"2", b"\0progress": b"p"}, 7)
    store.put_many({b"b": b"3"})  # not written
    store.close()
    store = RowStore(tmp_path / "0", META, cache_rows=10)
    assert store.get_many([b"a", b"b", b"\0progress"]) == [b"1", b"2", b"p"]
    assert store.offset() == 7
    assert store.scan(None, 10) == [b"a", b"b"]
    assert store.scan(b"a", 10) == [b"b"]
    store.write_flush({b"a": None}, 8)
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
    store.write_flush({b"x": old}, 1)
    for i in range(200):
        store.get_many([b"%d" % i])
    assert store.get_many([b"x"]) == [b"second"]
    store.close()


def test_a_recovered_progress_is_read_although_it_was_read_before(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "0", META, cache_rows=10)
    store.apply([b"\0progress"], [b"old"], 1)
    assert store.get_many([b"\0progress"]) == [b"old"]
    store.apply([b"\0progress"], [b"new"], 2)
    assert store.get_many([b"\0progress"]) == [b"new"]


def test_another_deployments_rows_are_refused(tmp_path: Path) -> None:
    RowStore(tmp_path / "0", META, cache_rows=10).close()
    with pytest.raises(ForeignStore, match="other"):
        RowStore(tmp_path / "0", Meta("other", 0, 4), cache_rows=10)


def row(clock: int, *starts: int) -> bytes:
    """A row whose last event lies at its clock, with panes at starts (units)."""
    heads = rows.join([None]).heads
    heads["birth"], heads["clock"], heads["last"] = 0, clock, clock
    measures = np.ones((len(starts), len(VOCABULARY.measures)), np.int64)
    panes = rows.Panes(np.array([0, len(starts)]), np.array(starts, np.int64), measures)
    return rows.cut(rows.pack(heads, panes))[0]


def test_a_due_entry_is_returned_once_before_and_after_it_is_written(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "0", META, cache_rows=10)
    list(store.build_index())
    first, second, third = expiry_index.entry(5, b"a"), expiry_index.entry(5, b"b"), expiry_index.entry(7, b"a")
    store.put_many({}, {first: b"", second: b""})
    assert store.due(4, 10) == []
    assert store.due(5, 10) == [first, second]
    store.write_flush({}, 1, {first: b"", second: b""})
    store.put_many({}, {first: None, third: b""})
    assert store.due(5, 10) == [second]
    assert store.due(5, 10) == []  # returned before
    store.write_flush({}, 2, {first: None, second: None, third: b""})
    store.close()
    store = RowStore(tmp_path / "0", META, cache_rows=10)
    assert (store.due(6, 10), store.due(7, 10)) == ([], [third])
    store.close()


def test_the_index_is_built_from_the_rows_and_kept_in_recovery(tmp_path: Path) -> None:
    now = 6_000_000 * windows.UNIT
    keys = [b"u%d" % i for i in range(INDEX_CHUNK + 3)]
    store = RowStore(tmp_path / "0", META, cache_rows=1000, forget_units=100)
    store.apply([*keys, b"\0progress"], [row(now, 6_000_000 - 20)] * len(keys) + [b"p"], 9)
    list(store.build_index())
    shutil.copytree(tmp_path / "0", tmp_path / "killed")
    killed = RowStore(tmp_path / "killed", META, cache_rows=1000, forget_units=100)
    assert len(killed.due(1 << 31, 1 << 20)) == len(keys)  # without another build
    killed.close()
    entries = store.due(1 << 31, 1 << 20)
    assert sorted(expiry_index.split(entry)[1] for entry in entries) == sorted(keys)
    # the row is forgotten before its hour leaves the day
    assert {expiry_index.split(entry)[0] for entry in entries} == {6_000_101}
    store.close()
    store = RowStore(tmp_path / "0", META, cache_rows=1000, forget_units=1000)  # another setting, so it is built again
    list(store.build_index())
    (exit_,) = {expiry_index.split(entry)[0] for entry in store.due(1 << 31, 1 << 20)}
    assert exit_ == (6_000_000 - 20) // 12 * 12 + 300
    store.close()
    store = RowStore(tmp_path / "0", META, cache_rows=1000, forget_units=1000)  # then applies the end of the changelog
    list(store.build_index())
    store.apply([b"u1", b"u2"], [None, row(now + windows.UNIT, 6_000_001)], 11)
    list(store.build_index())
    due_of_user = {expiry_index.split(entry)[1]: expiry_index.split(entry)[0] for entry in store.due(1 << 31, 1 << 20)}
    assert len(due_of_user) == len(keys) - 1
    assert (b"u1" in due_of_user, due_of_user[b"u2"]) == (False, 6_000_001 + 13)
    store.close()


def test_an_incomplete_index_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the setting has been changed back to that of the index before."""
    now = 6_000_000 * windows.UNIT

    def opened(forget: int) -> RowStore:
        return RowStore(tmp_path / "0", META, cache_rows=1000, forget_units=forget)

    store = opened(100)
    store.apply([b"a", b"b"], [row(now, 6_000_000)] * 2, 2)
    list(store.build_index())
    store.close()
    store = opened(1000)
    with monkeypatch.context() as patch:
        patch.setattr(RowStore, "_write_index", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(store.build_index())
    store.close()  # writes the incomplete index to the disk
    store = opened(100)
    list(store.build_index())
    assert [expiry_index.split(entry)[1] for entry in store.due(1 << 31, 10)] == [b"a", b"b"]
    store.close()


def test_a_build_of_the_index_that_ends_early_leaves_the_store_to_be_closed(tmp_path: Path) -> None:
    keys = [b"u%d" % i for i in range(2 * INDEX_CHUNK + 1)]
    store = RowStore(tmp_path / "0", META, cache_rows=1000)
    store.apply(keys, [row(6_000_000 * windows.UNIT, 6_000_000)] * len(keys), 9)
    turns = store.build_index()
    assert next(turns) == INDEX_CHUNK
    turns.close()
    store.close()
    store = RowStore(tmp_path / "0", META, cache_rows=1000)  # its folder is not locked
    assert list(store.build_index()) == [INDEX_CHUNK, 2 * INDEX_CHUNK]
    assert sorted(expiry_index.split(entry)[1] for entry in store.due(1 << 31, 1 << 20)) == sorted(keys)
    assert list(store.build_index()) == []
    store.close()


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
    """Nor as the end of the rows. The next open finds the mark, even if the process did not close the store."""
    path = tmp_path / "0"
    store = RowStore(path, META, cache_rows=10)
    store.write_flush({b"%06d" % i: os.urandom(200) for i in range(20_000)}, 1)
    store.close()
    flip(biggest(path), 200_000)
    store = RowStore(path, META, cache_rows=10)
    with pytest.raises(BrokenStore, match="checksum mismatch"):
        read(store)
    del store
    for _ in range(2):
        with pytest.raises(BrokenStore, match="checksum mismatch"):
            RowStore(path, META, cache_rows=10)
