"""Sources in one time: the smallest key first, ties by the order of sources, bounded by what may still come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.processing.time_merge import Merge
from streams.schemas.event_batch import concatenate
from tests.build import decoded, records

START = 1_700_000_000_000


def events(times: list[int]) -> list[dict]:
    return [{"event_time": START + t, "event_type": "view", "user_id": "u"} for t in times]


@given(st.lists(st.lists(st.integers(0, 30), max_size=20), min_size=1, max_size=5), st.integers(1, 5))
def test_any_arrival_gives_one_order(logs: list[list[int]], size: int) -> None:
    n = len(logs)
    merge = Merge([-1] * n, [0] * n, concatenate)
    expected = []
    for source, times in enumerate(logs):
        key = -1
        for offset, time in enumerate(times):
            key = max(key, START + time)
            expected.append((key, source, offset))
    got = []
    at = [0] * n
    while True:
        for source, times in enumerate(logs):
            part = times[at[source] : at[source] + (size + source) % 5 + 1]
            if part:
                batch = records(events(part), first=at[source])
                merge.add(source, decoded(batch, source=source, key_before=merge.key(source)), batch.last)
                at[source] += len(part)
        done = [at[source] >= len(times) for source, times in enumerate(logs)]
        taken = merge.take_ready(done)
        if taken is not None:
            got += list(zip(taken.key.tolist(), taken.source.tolist(), taken.offset.tolist(), strict=True))
        if all(done):
            break
    assert got == sorted(expected)
    assert [merge.applied(source) for source in range(n)] == [len(times) for times in logs]


def test_an_unknown_end_holds_the_others() -> None:
    merge = Merge([-1, -1], [0, 0], concatenate)
    batch = records(events([1, 2]))
    merge.add(0, decoded(batch), batch.last)
    assert merge.take_ready([True, False]) is None
    assert merge.holding([True, False]) == 1
    taken = merge.take_ready([True, True])
    assert taken is not None
    assert len(taken) == 2
