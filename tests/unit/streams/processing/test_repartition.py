"""Re-keying: one order for any fetches and restarts, the bytes as they came, rejects once, a wrong schema stops it."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from streams.processing import repartition
from streams.processing.progress import Source
from streams.processing.rejects import Record
from streams.processing.repartition import Progress, RepartitionProcessor
from streams.schemas.flat_json import FlatJson
from streams.schemas.record_batch import RecordBatch

START = 1_700_000_000_000
NOW = START + 10_000_000
PARTITIONS = 3
Log = list[tuple[bytes | None, list[tuple[str, bytes | None]]]]  # value, headers
# (ms after the start, user); no user: a reject; a time of None: passed on, and no time moves
LOGS = st.lists(
    st.lists(st.tuples(st.one_of(st.integers(0, 40), st.none()), st.one_of(st.integers(0, 9), st.none())), max_size=15),
    min_size=1,
    max_size=5,
)


def log(lines: list[tuple[int | None, int | None]]) -> Log:
    found: Log = []
    for time, user in lines:
        event: dict[str, Any] = {"event_type": "view", "price": "no price"}  # a reject of the worker's, not of ours
        if time is not None:
            event["event_time"] = START + time
        if user is not None:
            event["user_id"] = f"user {user}"
        found.append((json.dumps(event).encode(), [("n", str(len(found)).encode()), ("none", None)][: len(found) % 3]))
    return found


def fetch(partition: int, whole: Log, start: int, end: int) -> RecordBatch:
    part = whole[start:end]
    return RecordBatch(
        "raw",
        partition,
        start,
        end - 1,
        list(range(start, end)),
        [b"session"] * len(part),
        [v for v, _ in part],
        [START + 100 + i for i in range(start, end)],
        [h for _, h in part],
    )


def rekeyer(progress: Progress, limits: tuple[int, float] | None = (1_000, 0.5)) -> RepartitionProcessor:
    return RepartitionProcessor(
        progress, FlatJson(), topic="keyed", dead_letters="dead", partitions=PARTITIONS, limits=limits
    )


def expected(lines: list[list[tuple[int | None, int | None]]]) -> dict[tuple[str, int], list[Any]]:
    """By sorting: (key, value, headers, time) of each partition; of a dead letter topic, partition and offset."""
    found = []
    for partition, part in enumerate(lines):
        key = -1
        for offset, ((time, user), (value, headers)) in enumerate(zip(part, log(part), strict=True)):
            if time is not None and user is not None:
                key = max(key, START + time)
            found.append((key, partition, offset, user, value, headers))
    out: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for _, partition, offset, user, value, headers in sorted(found, key=lambda one: one[:3]):
        if user is None:
            out["dead", partition % PARTITIONS].append((value, "no_user", "raw", partition, offset))
        else:
            name = f"user {user}".encode()
            at = (murmur2(name) & 0x7FFFFFFF) % PARTITIONS
            out["keyed", at].append((name, value, headers, START + 100 + offset))
    return out


def told(at: tuple[str, int], record: Record, stamp: int | None) -> Any:
    key, value, headers = record
    if at[0] == "keyed":
        return key, value, headers, stamp
    h = dict(headers)
    assert (key, stamp) == (b"session", None)
    return value, h["reason"].decode(), h["topic"].decode(), int(h["partition"]), int(h["offset"])


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(LOGS, st.data())
def test_any_fetches_and_restarts_give_one_order(
    lines: list[list[tuple[int | None, int | None]]], data: st.DataObject
) -> None:
    logs = [log(part) for part in lines]
    ends = {i: len(part) for i, part in enumerate(logs)}
    stored = repartition.dumps(Progress(logs=[Source() for _ in logs]))
    now = rekeyer(repartition.loads(stored))
    out: dict[tuple[str, int], list[Any]] = defaultdict(list)
    known: dict[int, int | None] = dict.fromkeys(ends)
    while any(log.offset < ends[i] for i, log in enumerate(repartition.loads(stored).logs)):
        what = data.draw(st.sampled_from(["fetch", "fetch", "run", "cut", "cut, die", "die"]))
        left = [i for i in ends if now.position(i) < ends[i]]
        if what == "fetch" and left:
            i = data.draw(st.sampled_from(left))
            start = now.position(i)
            assert now.add(fetch(i, logs[i], start, data.draw(st.integers(start + 1, ends[i]))), NOW)
        if what in ("run", "cut", "cut, die"):
            known |= {i: ends[i] for i in ends if not left or data.draw(st.booleans())}  # as fetches tell them
            now.run(known)
            if "cut" in what and (cut := now.cut(NOW)) is not None:
                stored = cut.progress
                for at, outputs in cut.outputs.items():
                    out[at] += [told(at, *one) for one in zip(outputs.records, outputs.stamps, strict=True)]
        if "die" in what:  # what was not cut and committed has left no trace
            now, known = rekeyer(repartition.loads(stored)), dict.fromkeys(ends)
    wanted = expected(lines)
    assert set(out) == set(wanted)
    for at, records in wanted.items():
        assert out[at] == records, at


def test_a_fetch_that_does_not_go_on_is_left_out() -> None:
    now = rekeyer(Progress(logs=[Source(offset=3, key=START)]))
    whole = log([(1, 1)] * 9)
    assert not now.add(fetch(0, whole, 4, 6), NOW)
    assert not now.add(fetch(0, whole, 2, 6), NOW)
    assert now.add(fetch(0, whole, 3, 6), NOW)
    now.run({0: 6})
    cut = now.cut(NOW)
    assert cut is not None
    assert (cut.records, repartition.loads(cut.progress).logs) == (3, [Source(6, START + 1)])


def test_one_that_runs_ahead_is_held_and_one_that_is_waited_for_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repartition, "QUEUE", 2 * repartition.QUEUE_LEAST)
    now = rekeyer(Progress(logs=[Source(), Source()]))
    whole = log([(1, 1)] * repartition.QUEUE_LEAST)
    assert now.add(fetch(0, whole, 0, len(whole)), NOW)
    now.run({0: 10_000, 1: 10_000})
    assert now.full_partitions() == {0}
    assert now.add(fetch(1, whole, 0, 1), NOW)
    now.run({0: 10_000, 1: 10_000})
    assert now.full_partitions() == set()


def test_a_bad_clock_moves_no_time_and_its_record_is_passed_on() -> None:
    now = rekeyer(Progress(logs=[Source()]))
    whole = log([(5, 1), (50_000_000, 1), (7, 1)])
    assert now.add(fetch(0, whole, 0, 3), NOW)
    now.run({0: 3})
    assert now.progress.logs == [Source(3, START + 7)]
    cut = now.cut(NOW)
    assert cut is not None
    assert [len(outputs.records) for outputs in cut.outputs.values()] == [3]


def test_what_has_no_user_or_no_room_is_a_dead_letter_with_its_reason() -> None:
    now = rekeyer(Progress(logs=[Source()]), None)
    good = b'{"user_id": 7, "event_time": 1, "price": {"deep": []}}'
    values = [good, None, b"\xff", b'{"user_id": "a\\u0000b"}', b"x" * 70_000, b"[]", b'{"user_id": ""}', good]
    whole: Log = [(value, []) for value in values]
    whole[-1] = (good, [("large", b"h" * 900_000)])
    assert now.add(fetch(0, whole, 0, len(whole)), NOW)
    now.run({0: len(whole)})
    cut = now.cut(NOW)
    assert cut is not None
    (passed,) = cut.outputs["keyed", (murmur2(b"7") & 0x7FFFFFFF) % PARTITIONS].records
    assert passed == (b"7", good, [])
    reasons = [dict(headers)["reason"].decode() for _, _, headers in cut.outputs["dead", 0].records]
    assert reasons == ["null_value", "not_json", "bad_user", "too_large", "bad_type", "no_user", "too_large"]
    assert now.counts["reject:too_large"] == 2


def test_a_wrong_schema_stops_it_until_rejects_are_accepted() -> None:
    now = rekeyer(Progress(logs=[Source()]), (4, 0.5))
    whole = log([(1, None)] * 8)
    assert now.add(fetch(0, whole, 0, 4), NOW)
    now.run({0: 8})
    cut = now.cut(NOW)
    assert cut is not None
    stored = repartition.loads(cut.progress)
    assert "4 of 4 records" in (stored.stopped or "")
    again = rekeyer(repartition.loads(cut.progress), (4, 0.5))
    assert again.add(fetch(0, whole, 4, 8), NOW)
    again.run({0: 8})
    assert again.pending == 0
    assert again.progress.logs[0].offset == 4
    accepted = rekeyer(repartition.loads(cut.progress), None)
    assert accepted.add(fetch(0, whole, 4, 8), NOW)
    accepted.run({0: 8})
    assert accepted.pending == 4
    assert accepted.progress.stopped is None


@pytest.mark.parametrize(
    ("stored", "written", "firsts", "ends", "told", "then"),
    [
        (None, True, [0], [9], "progress of its repartitioner is gone", [Source(0)]),
        (Progress(topic="raw", ident="1", logs=[Source(5, 7)]), True, [0], [9], "is not the raw", [Source(0)]),
        (Progress(topic="old", ident="2", logs=[Source(5, 7)]), True, [3], [9], "is not the old", [Source(3)]),
        (Progress(topic="raw", ident="2", logs=[Source(5, 7)] * 2), True, [0], [9], "is not the raw", [Source(0)]),
        (Progress(topic="raw", ident="2", logs=[Source(5, 7)]), True, [0], [4], "ends at 4", [Source(4, 7)]),
        (Progress(topic="raw", ident="2", logs=[Source(5, 7)]), True, [6], [9], "starts at 6", [Source(6, 7)]),
        (
            Progress(topic="raw", ident="2", logs=[Source(5, 7)]),
            True,
            [0, 1],
            [9, 9],
            "raw/1 starts at 1",
            [Source(5, 7), Source(1)],
        ),
    ],
)
def test_what_would_be_lost_or_sent_twice_is_told(
    stored: Progress | None, written: bool, firsts: list[int], ends: list[int], told: str, then: list[Source]
) -> None:
    found, losses = repartition.resume(stored, "raw", "2", firsts, ends, written=written)
    assert [told in loss for loss in losses] == [True]
    assert (found.topic, found.ident, found.logs) == ("raw", "2", then)


def test_what_goes_on_loses_nothing() -> None:
    stored = Progress(topic="raw", ident="2", logs=[Source(5, 7)])
    found, losses = repartition.resume(stored, "raw", "2", [5, 0], [5, 9], written=True)
    assert (found.logs, losses) == ([Source(5, 7), Source()], [])  # the topic has grown
    fresh, losses = repartition.resume(None, "raw", "2", [3], [9], written=False)
    assert (fresh.logs, losses) == ([Source(3)], [])


def test_a_progress_of_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="layout 2"):
        repartition.loads(repartition.dumps(Progress(layout=2)))
