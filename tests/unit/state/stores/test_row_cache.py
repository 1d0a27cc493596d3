"""Segments sealed and dissolved: what a plain dict would say."""

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
def test_unbounded_it_is_a_dict(steps: list[dict[bytes, bytes] | bytes]) -> None:
    held, plain = RowCache(10**6), {}
    for step in steps:
        if isinstance(step, bytes):
            held.drop(step)
            plain.pop(step, None)
        else:
            held.put_many(step)
            plain.update(step)
        assert held.get_many(KEYS) == [plain.get(key) for key in KEYS]
        assert len(held) == len(plain)


@given(st.lists(ROWS, max_size=40))
def test_bounded_it_forgets_but_never_lies(steps: list[dict[bytes, bytes]]) -> None:
    held, plain, written = RowCache(3), {}, 0
    for step in steps:
        held.put_many(step)
        plain.update(step)
        written += sum(map(len, step.values()))
        rows = held.get_many(KEYS)
        assert all(row in (None, plain.get(key)) for key, row in zip(KEYS, rows, strict=True))
        # until the first segment is sealed nothing is forgotten
        assert written >= row_cache.SEGMENT_BYTES or rows == [plain.get(key) for key in KEYS]


def test_bounded_it_forgets_the_oldest_segments_and_no_others() -> None:
    held = RowCache(3)
    rows = {key: key * (row_cache.SEGMENT_BYTES // 2 // len(key)) for key in KEYS[:10]}  # two of them fill a segment
    for count, (key, row) in enumerate(rows.items(), 1):
        held.put_many({key: row})
        there = [key for key, found in zip(rows, held.get_many(list(rows)), strict=True) if found is not None]
        assert there == list(rows)[max(0, (count // 2 - 1) * 2) : count]  # the last full segment and what came after
    assert held.get_many(there) == [rows[key] for key in there]


def test_bounded_the_newest_rows_stay() -> None:
    held = RowCache(3)
    written = [(b"%d" % i, b"%d" % i * (row_cache.SEGMENT_BYTES + 1)) for i in range(6)]  # each is sealed by itself
    for i, (key, row) in enumerate(written):
        held.put_many({key: row})
        there = dict(written[max(0, i - 2) : i + 1])
        assert held.get_many([key for key, _ in written]) == [there.get(key) for key, _ in written]
        assert len(held) == len(there)


def test_memory_stays_within_twice_the_rows_and_a_segment() -> None:
    held = RowCache(10**6)
    for round_ in range(50):
        held.put_many({key: bytes([round_]) * (20 + (i * 7 + round_) % 30) for i, key in enumerate(KEYS)})
    sealed = sum(segment.row_bytes for segment in held._segments.values())
    assert (
        sealed + held._new_bytes
        <= 2 * sum(len(row or b"") for row in held.get_many(KEYS)) + 2 * row_cache.SEGMENT_BYTES
    )


def test_more_at_once_than_a_segment_can_point_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "PUT_CHUNK", 4)
    held = RowCache(10**6)
    held.put_many({b"%04d" % i: b"%04d" % i * 20 for i in range(200)})
    assert max(segment.row_bytes for segment in held._segments.values()) <= 4 * 80 + row_cache.SEGMENT_BYTES
    assert held.get_many([b"%04d" % i for i in range(200)]) == [b"%04d" % i * 20 for i in range(200)]
