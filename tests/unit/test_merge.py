"""Sources in one time: the smallest key first, ties by the order of sources, bounded by what may still come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.merge import Merge
from tests.build import decoded, records

START = 1_700_000_000_000


def events(times: list[int]) -> list[dict]:
    return [{"event_time": START + t, "event_type": "view", "user_id": "u"} for t in times]


@given(st.lists(st.integers(0, 30), max_size=20), st.lists(st.integers(0, 30), max_size=20), st.integers(1, 5))
def test_any_arrival_gives_one_order(a: list[int], b: list[int], size: int) -> None:
    merge = Merge([-1, -1], [0, 0])
    expected = []
    for source, times in enumerate((a, b)):
        key = -1
        for offset, time in enumerate(times):
            key = max(key, START + time)
            expected.append((key, source, offset))
    got = []
    at = [0, 0]
    while True:
        for source, times in enumerate((a, b)):
            part = times[at[source] : at[source] + (size if source else 3)]
            if part:
                batch = records(events(part), first=at[source])
                merge.offer(source, decoded(batch, source=source, key_before=merge.key(source)), batch.last)
                at[source] += len(part)
        done = [at[0] >= len(a), at[1] >= len(b)]
        taken = merge.take(done)
        if taken is not None:
            got += list(zip(taken.key.tolist(), taken.source.tolist(), taken.offset.tolist(), strict=True))
        if all(done):
            break
    assert got == sorted(expected)
    assert [merge.applied(0), merge.applied(1)] == [len(a), len(b)]


def test_an_unknown_end_holds_the_others() -> None:
    merge = Merge([-1, -1], [0, 0])
    batch = records(events([1, 2]))
    merge.offer(0, decoded(batch), batch.last)
    assert merge.take([True, False]) is None
    assert merge.holding([True, False]) == 1
    taken = merge.take([True, True])
    assert taken is not None
    assert len(taken) == 2
