"""The poison corpus and fuzz: bytes never raise, and what is bad never changes what stands beside it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from state.stores.memory import MemoryStore
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.rejects import dead_letter
from streams.schemas.event_batch import EVENT_COLUMNS, REASONS, EventBatch, Reject
from streams.schemas.event_fields import FIELDS
from streams.schemas.flat_json import FlatJson
from streams.schemas.record_batch import RecordBatch
from tests.build import version
from tests.support.events.rejects import AHEAD, MARK, Record, event, odd, poison, spelled

NOW = 1_700_000_000_000
SCHEMA = FlatJson()
RULE = PartitionConfig(sources=("clickstream",))
TOPICS = Topics("changes", "segments", "alerts", "dead", "training", "receipts")


BAD, ODD = poison(f"u {MARK}", NOW), odd(f"u {MARK}", NOW)
GOOD = Record("", json.dumps(event("u", NOW, event_type="purchase", quantity=2)).encode(), b"u", NOW)


def fetch(records: Sequence[Record], first: int = 0) -> RecordBatch:
    return RecordBatch(
        "clickstream",
        0,
        first,
        first + len(records) - 1,
        list(range(first, first + len(records))),
        [r.key for r in records],
        [r.value for r in records],
        [r.stamp for r in records],
    )


def decode(batch: RecordBatch, source: int = 0, key_before: int = -1, now: int | None = NOW) -> EventBatch:
    return SCHEMA.decode(batch, source=source, key_before=key_before, now=now)


def line(batch: EventBatch, i: int) -> tuple[object, ...]:
    """What record i was decoded to, but for its place in the log."""
    events = [tuple(getattr(batch, name)[j] for name in EVENT_COLUMNS) for j in np.flatnonzero(batch.record == i)]
    return (batch.users[i], batch.source[i], batch.reason[i], events)


def check(records: Sequence[Record]) -> EventBatch:
    """Each record of a fetch comes out as it does alone; rejects keep their bytes and name a reason and no value."""
    batch, greatest = decode(fetch(records)), -1
    for i, record in enumerate(records):
        alone = decode(fetch([record]))
        assert line(batch, i) == line(alone, 0)
        greatest = max([greatest, *batch.time[batch.record == i].tolist()])
        assert batch.key[i] == greatest
        if batch.reason[i]:
            name, r = REASONS[batch.reason[i]], batch.rejects[i]
            assert r == Reject(name, r.detail, "clickstream", 0, i, record.stamp, record.key, record.value)
            assert batch.users[i] == b""
    assert set(batch.rejects) == set(np.flatnonzero(batch.reason).tolist())
    assert batch.record.tolist() == np.flatnonzero(batch.reason == 0).tolist()
    return batch


@pytest.mark.parametrize("name", [*BAD, *ODD])
def test_each_between_good_neighbours(name: str) -> None:
    record = (BAD | ODD)[name]
    batch = check([GOOD, record, GOOD])
    assert [REASONS[r] for r in batch.reason] == ["", record.reason, ""]
    assert batch.amount.tolist()[:: len(batch.record) - 1] == [250, 250]


def test_details_name_fields_and_no_values() -> None:
    fixed = {"", "the record's key is not the user id", "nested too deep"}
    for name, record in BAD.items():
        detail = decode(fetch([record])).rejects[0].detail
        size = f"{len(record.value or b'')} bytes"
        assert detail in (fixed | set(FIELDS) if record.reason != "too_large" else {size}), name


@settings(max_examples=25, deadline=None)
@given(st.permutations([*(name for name in BAD if "deep" not in name), *ODD, *["good"] * 20]), st.integers(0, 150))
def test_all_in_one_fetch(names: list[str], first: int) -> None:
    records = [(BAD | ODD | {"good": GOOD})[name] for name in names[first:]]
    batch = check(records)
    assert [REASONS[r] for r in batch.reason] == [r.reason for r in records]


@pytest.mark.parametrize("deep", [50, 500, 1_000, 5_000])
def test_nesting_is_judged_alike_whatever_the_stack(deep: int) -> None:
    """A worker and a backfill agree, from whatever depth they call, and under any Python."""
    record = Record("?", spelled("u", NOW, "note", "[" * deep + "]" * deep), b"u", NOW)
    before, found = sys.getrecursionlimit(), set()
    for limit in (1_000, 10_000):
        sys.setrecursionlimit(limit)
        try:
            found.add(REASONS[decode(fetch([record])).reason[0]])
        finally:
            sys.setrecursionlimit(before)
    assert found in ({""}, {"not_json"})
    assert deep < 1_000 or found == {"not_json"}


@pytest.mark.parametrize("neighbour", [b"not json", b""])
def test_a_deep_record_among_records_without_brackets(neighbour: bytes) -> None:
    deep = Record("?", spelled("u", NOW, "note", "[" * 3_000 + "]" * 3_000), b"u", NOW)
    batch = decode(fetch([deep, *[Record("?", neighbour, b"u", NOW)] * 7_000]))
    assert {REASONS[code] for code in batch.reason.tolist()} == {"not_json"}


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, NOW + 2 * AHEAD),
    st.floats(),
    st.text(max_size=9),
    st.integers(-(10**40), 10**40),
    st.sampled_from(["purchase", "refund", "USD", "2024-02-29T12:00:00Z", MARK, ""]),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.text(max_size=3), SCALARS, max_size=2))
EVENTS = st.builds(
    lambda other: json.dumps(event("u", NOW) | other).encode(),
    st.dictionaries(st.sampled_from([*FIELDS, "x"]), VALUES, max_size=5),
)
SPLICED = st.builds(
    lambda at, cut, new: GOOD.value[:at] + new + GOOD.value[at + cut :],  # type: ignore[index]
    st.integers(0, 110),
    st.integers(0, 9),
    st.binary(max_size=5),
)
RECORDS = st.builds(
    Record,
    st.just("?"),
    st.one_of(EVENTS, SPLICED, st.binary(max_size=60), st.none()),
    st.sampled_from([b"u", b"u", b"u", None, b"", MARK.encode()]),
    st.sampled_from([NOW, NOW, NOW, NOW + 10 * AHEAD, 0, -1, 2**63 - 1, -(2**63)]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(RECORDS, max_size=8))
@example([])
def test_fuzz_of_decode(records: list[Record]) -> None:
    check(records)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(RECORDS, max_size=6), min_size=1, max_size=4))
def test_fuzz_of_a_task(fetches: list[list[Record]]) -> None:
    """What decode lets through, the rest can fold, judge and write."""
    task = PartitionProcessor(RULE, decode, MemoryStore(), TOPICS)
    task.adopt(version(1, 3))
    accepted = rejected = at = 0
    for records in fetches:
        batch = decode(fetch(records))
        accepted, rejected = accepted + int((batch.reason == 0).sum()), rejected + len(batch.rejects)
        assert task.add(fetch(records, at))
        task.run(NOW, {"clickstream": 1 << 40})
        task.cut(NOW)
        at += len(records)
    counts = task.counts
    assert (counts["events"], task.progress.ordinal) == (at, at)
    assert sum(n for name, n in counts.items() if name.startswith("reject:")) == rejected
    assert task.progress.users == (accepted > 0)


@pytest.mark.parametrize("size", [10, 45_000])
def test_a_task_that_stops_has_lost_nothing(size: int) -> None:
    """What it had not applied when rejects stopped it is read again, also where more was queued than a step takes."""
    store = MemoryStore()
    task = PartitionProcessor(RULE, decode, store, TOPICS, reject_window=10)
    task.add(fetch([Record("?", b"{", b"u", NOW)] * 10 + [GOOD] * (size - 10)))
    applied = task.run(NOW, {"clickstream": size})
    flush = task.cut(NOW)
    assert flush is not None
    assert "not_json" in (task.progress.stopped or "")
    store.put_many(flush.rows)
    again = PartitionProcessor(RULE, decode, store, TOPICS, accept_rejects=True)
    assert again.positions()["clickstream"] == again.progress.ordinal == applied


@pytest.mark.parametrize(("bad", "stops"), [(5, False), (6, True)])
def test_half_of_the_records_is_not_most(bad: int, stops: bool) -> None:
    task = PartitionProcessor(RULE, decode, MemoryStore(), TOPICS, reject_window=10)
    task.add(fetch([GOOD, Record("?", b"{", b"u", NOW)] * 4 + [Record("?", b"", b"u", NOW)] * (bad - 4) + [GOOD] * 9))
    task.run(NOW, {"clickstream": 1 << 40})
    stopped = task.progress.stopped
    assert (stopped is not None) == stops
    assert stopped is None or re.search(r"6 of 10 .* 'not_json'", stopped)


@pytest.mark.parametrize("key", [9, (1 << 20) - 100])
def test_a_dead_letter_fits_where_the_record_did(key: int) -> None:
    """Its headers must not push it over a topic's limit; 1 MiB is the least that the settings take."""
    limit = (1 << 20) - 100  # what a batch and a record cost beside their bytes
    reject = Reject("too_large", "", "clickstream", 0, 1 << 40, NOW, b"k" * key, b"x" * (limit - key))
    sent, value, headers = dead_letter(reject)
    assert len(sent or b"") + len(value or b"") + sum(len(name) + len(text) for name, text in headers) <= limit
