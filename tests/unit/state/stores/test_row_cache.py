"""The row cache behaves as a plain dict while its segments are sealed and dissolved."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.stores import row_cache
from state.stores.row_cache import RowCache

KEYS = [b"%d" % i for i in range(12)]
ROWS = st.dictionaries(st.sampled_from(KEYS), st.binary(min_size=1, max_size=90), max_size=6)
DROPPED = st.sampled_from(KEYS)


@pytest.fixture(scope="module", autouse=True)
def _small_segments() -> Iterator[None]:
    before, row_cache.SEGMENT_BYTES = row_cache.SEGMENT_BYTES, 200
    yield
    row_cache.SEGMENT_BYTES = before


@given(st.lists(ROWS | DROPPED, max_size=40))
def test_an_unbounded_cache_equals_a_dict(steps: list[dict[bytes, bytes] | bytes]) -> None:
    cache, expected = RowCache(10**6), {}
    for step in steps:
        if isinstance(step, bytes):
            cache.drop(step)
            expected.pop(step, None)
        else:
            cache.put_many(step)
            expected.update(step)
        assert cache.get_many(KEYS) == [expected.get(key) for key in KEYS]
        assert len(cache) == len(expected)


@given(st.lists(ROWS, max_size=40))
def test_a_bounded_cache_may_lack_rows_but_returns_no_wrong_ones(steps: list[dict[bytes, bytes]]) -> None:
    cache, expected, written = RowCache(3), {}, 0
    for step in steps:
        cache.put_many(step)
        expected.update(step)
        written += sum(map(len, step.values()))
        rows = cache.get_many(KEYS)
        assert all(row in (None, expected.get(key)) for key, row in zip(KEYS, rows, strict=True))
        # nothing is dropped before the first segment is sealed
        assert written >= row_cache.SEGMENT_BYTES or rows == [expected.get(key) for key in KEYS]


def test_a_bounded_cache_drops_the_oldest_segments_only() -> None:
    cache = RowCache(3)
    rows = {key: key * (row_cache.SEGMENT_BYTES // 2 // len(key)) for key in KEYS[:10]}  # two of them fill a segment
    for count, (key, row) in enumerate(rows.items(), 1):
        cache.put_many({key: row})
        cached = [key for key, found in zip(rows, cache.get_many(list(rows)), strict=True) if found is not None]
        assert cached == list(rows)[max(0, (count // 2 - 1) * 2) : count]  # the last full segment and what came after
    assert cache.get_many(cached) == [rows[key] for key in cached]


def test_a_bounded_cache_keeps_the_newest_rows() -> None:
    cache = RowCache(3)
    written = [(b"%d" % i, b"%d" % i * (row_cache.SEGMENT_BYTES + 1)) for i in range(6)]  # each is sealed by itself
    for i, (key, row) in enumerate(written):
        cache.put_many({key: row})
        cached = dict(written[max(0, i - 2) : i + 1])
        assert cache.get_many([key for key, _ in written]) == [cached.get(key) for key, _ in written]
        assert len(cache) == len(cached)


def test_memory_stays_within_twice_the_rows_and_a_segment() -> None:
    cache = RowCache(10**6)
    for round_ in range(50):
        cache.put_many({key: bytes([round_]) * (20 + (i * 7 + round_) % 30) for i, key in enumerate(KEYS)})
    sealed = sum(segment.row_bytes for segment in cache._segments.values())
    assert (
        sealed + cache._new_bytes
        <= 2 * sum(len(row or b"") for row in cache.get_many(KEYS)) + 2 * row_cache.SEGMENT_BYTES
    )


def test_put_many_of_more_rows_than_fit_into_a_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "PUT_CHUNK", 4)
    cache = RowCache(10**6)
    cache.put_many({b"%04d" % i: b"%04d" % i * 20 for i in range(200)})
    assert max(segment.row_bytes for segment in cache._segments.values()) <= 4 * 80 + row_cache.SEGMENT_BYTES
    assert cache.get_many([b"%04d" % i for i in range(200)]) == [b"%04d" % i * 20 for i in range(200)]
