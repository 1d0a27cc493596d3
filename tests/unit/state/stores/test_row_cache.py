"""The row cache behaves as a plain dict while its blocks are filled, emptied and dropped."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.stores import row_cache
from state.stores.row_cache import RowCache

KEYS = [b"%d" % i for i in range(12)]
ROWS = st.dictionaries(st.sampled_from(KEYS), st.binary(min_size=1, max_size=90), max_size=6)
DROPPED = st.sampled_from(KEYS)


@pytest.fixture(scope="module", autouse=True)
def _small_blocks() -> Iterator[None]:
    before = row_cache.BLOCK, row_cache.PUT_CHUNK, row_cache.FIRST_SLOTS
    row_cache.BLOCK, row_cache.PUT_CHUNK, row_cache.FIRST_SLOTS = 256, 4, 4
    yield
    row_cache.BLOCK, row_cache.PUT_CHUNK, row_cache.FIRST_SLOTS = before


def in_memory(cache: RowCache) -> bytes:
    return cache._table.data.tobytes()


@given(st.lists(ROWS | DROPPED, max_size=40))
def test_an_unbounded_cache_equals_a_dict(steps: list[dict[bytes, bytes] | bytes]) -> None:
    cache, expected = RowCache(100), dict[bytes, bytes]()
    for step in steps:
        if isinstance(step, bytes):
            cache.drop(step)
            expected.pop(step, None)
        else:
            cache.put_many(step)
            expected.update(step)
        assert cache.get_many(KEYS) == [expected.get(key) for key in KEYS]
        assert len(cache) == len(expected)


@given(st.lists(ROWS | DROPPED, max_size=40))
def test_a_bounded_cache_may_lack_rows_but_returns_no_wrong_ones(steps: list[dict[bytes, bytes] | bytes]) -> None:
    cache, expected = RowCache(3), dict[bytes, bytes]()
    for step in steps:
        if isinstance(step, bytes):
            cache.drop(step)
            expected.pop(step, None)
        else:
            cache.put_many(step)
            expected.update(step)
        rows = cache.get_many(KEYS)
        assert all(row in (None, expected.get(key)) for key, row in zip(KEYS, rows, strict=True))
        assert len(cache) == sum(row is not None for row in rows)


def test_keys_of_one_hash_are_distinct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "hash", lambda key: 7, raising=False)
    cache, expected = RowCache(100), dict[bytes, bytes]()
    for step in range(60):
        key = KEYS[step * 5 % len(KEYS)]
        if step % 3 == 2:
            cache.drop(key)
            expected.pop(key, None)
        else:
            cache.put_many({key: b"%d" % step})
            expected[key] = b"%d" % step
        assert cache.get_many(KEYS) == [expected.get(key) for key in KEYS]


def test_a_bounded_cache_keeps_the_newest_rows() -> None:
    cache = RowCache(3)
    written = [(b"%02d" % i, b"%02d" % i * 40) for i in range(20)]  # two fill a block
    for i, (key, row) in enumerate(written):
        cache.put_many({key: row})
        found = cache.get_many([key for key, _ in written])
        newest = max(0, i - 2)
        assert found[newest : i + 1] == [row for _, row in written[newest : i + 1]]
        assert len(cache) <= 3 + 2  # the block that is being filled, too


def test_where_there_is_no_more_memory_the_oldest_rows_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(row_cache, "_resized", refuse)
    cache = RowCache(1_000)  # four blocks of 256 bytes
    written = {b"%03d" % i: b"%03d" % i * 20 for i in range(200)}
    for key, row in written.items():
        cache.put_many({key: row})
    found = cache.get_many(list(written))
    kept = [row for row in found if row is not None]
    assert 3 <= len(kept) == len(cache) < 10
    assert found[-len(kept) :] == kept == list(written.values())[-len(kept) :]


def test_memory_that_cannot_be_resized_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed(mmap.mmap):
        def resize(self, newsize: int) -> None:
            raise SystemError("mmap: resizing not available--no mremap()")

    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    monkeypatch.setattr(row_cache, "_map", lambda blocks: Fixed(-1, blocks * row_cache.BLOCK, flags=flags))
    cache = RowCache(1_000)
    rows = {b"%04d" % i: b"%04d" % i * 20 for i in range(300)}
    cache.put_many(rows)
    assert cache.get_many(list(rows)) == list(rows.values())


def test_a_row_that_is_replaced_or_dropped_is_overwritten() -> None:
    cache = RowCache(100)
    cache.put_many({b"ann": b"first-row", b"bob": b"bobs-row"})
    cache.put_many({b"ann": b"second-row"})
    assert b"first-row" not in in_memory(cache)
    assert b"second-row" in in_memory(cache)
    cache.drop(b"ann")
    assert b"second-row" not in in_memory(cache)
    assert b"ann" not in in_memory(cache)
    assert cache.get_many([b"ann", b"bob"]) == [None, b"bobs-row"]


@pytest.mark.parametrize("block", [256, mmap.PAGESIZE])
def test_an_emptied_block_is_overwritten(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "BLOCK", block)
    cache = RowCache(100)
    long = block // 12
    for _ in range(3):
        cache.put_many({key: key * (long // len(key)) for key in KEYS})
    cache.put_many(dict.fromkeys(KEYS[:-1], b"new"))
    cache.put_many({b"more": b"row"})  # blocks are emptied before rows are added
    held = in_memory(cache)
    assert held.count(KEYS[-1] * (long // 2)) == 1
    assert np.count_nonzero(np.frombuffer(held, np.uint8)) < 3 * long + 600


def test_memory_grows_with_the_rows() -> None:
    cache = RowCache(10**6)
    assert len(cache._table.data) == row_cache.FEWEST_BLOCKS * row_cache.BLOCK
    rows = {b"%04d" % i: b"%04d" % i * 20 for i in range(300)}
    cache.put_many(rows)
    assert cache.get_many(list(rows)) == list(rows.values())
    assert len(cache._table.data) < 2 * sum(len(key) + len(row) + 32 for key, row in rows.items())


def test_a_row_of_more_than_half_a_block_is_not_kept() -> None:
    cache = RowCache(100)
    cache.put_many({b"ann": b"row"})
    cache.put_many({b"ann": bytes(200), b"bob": b"row"})
    assert cache.get_many([b"ann", b"bob"]) == [None, b"row"]
    assert len(cache) == 1


def test_memory_stays_within_twice_the_rows_and_a_block() -> None:
    cache = RowCache(100)
    for round_ in range(50):
        cache.put_many({key: bytes([round_]) * (20 + (i * 7 + round_) % 30) for i, key in enumerate(KEYS)})
    table = cache._table
    assert table.valid.sum() <= 12 * (3 + 8)  # words of an entry
    assert 8 * table.used.sum() <= 2 * 8 * table.valid.sum() + 2 * row_cache.BLOCK


def test_many_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = RowCache(1_000)
    rows = {b"%04d" % i: b"%04d" % i * 20 for i in range(800)}
    cache.put_many(rows)
    assert cache.get_many(list(rows)) == list(rows.values())
    assert len(cache) == 800
