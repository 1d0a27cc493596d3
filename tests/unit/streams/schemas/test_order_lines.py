"""Records that become several events, or none: all that counts records counts them once, however they are fetched."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state import windows
from state.stores.memory import MemoryStore
from state.vocabulary import VOCABULARY
from streams.config.settings import load
from streams.kafka.dead_letter_records import RepairedLine, RepairedRecord, check_repaired, from_record
from streams.offline.backfill import backfill
from streams.offline.event_files import read_events
from streams.offline.feature_table import window_sums
from streams.processing import progress, repartition
from streams.processing.outputs.output_buffer import Flush, Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import PROGRESS_KEY, Entry, Source
from streams.processing.rejects import Record
from streams.processing.repartition import RepartitionProcessor
from streams.schemas.event_batch import EVENT_COLUMNS, REASONS, RECORD_COLUMNS, EventBatch, concatenate
from streams.schemas.flat_json import FlatJson
from streams.schemas.record_batch import RecordBatch
from streams.schemas.registry import SCHEMAS, Registered
from streams.schemas.schema import decoder
from tests.build import version
from tests.support.order_lines import OrderLines

START = 1_700_000_000_000
NOW = START + 1_000 * windows.DAY * windows.UNIT
SOURCES = ("clickstream", "orders")
TOPICS = Topics("changes", "segments", "alerts", "dead", "training", "receipts")
RULE = PartitionConfig(sources=SOURCES, forget=35 * windows.DAY)
ORDERS = OrderLines()
DECODE = decoder([FlatJson(), ORDERS])


def order(number: int, user: str, time: int, *lines: dict[str, Any]) -> dict[str, Any]:
    """time: ms after START."""
    return {"order": f"o{number}", "customer": user, "time": START + time, "lines": list(lines)}


def fetch(records: Sequence[dict[str, Any]], topic: str = "orders", first: int = 0) -> RecordBatch:
    count = len(records)
    return RecordBatch(
        topic,
        0,
        first,
        first + count - 1,
        list(range(first, first + count)),
        [str(record.get("customer", record.get("user_id"))).encode() for record in records],
        [json.dumps(record).encode() for record in records],
        [NOW] * count,
    )


def decode(records: Sequence[dict[str, Any]], key_before: int = -1) -> EventBatch:
    return ORDERS.decode(fetch(records), source=1, key_before=key_before, now=NOW)


# -- decode -----------------------------------------------------------------------------------------------------------


def test_an_order_becomes_its_lines_or_nothing_or_a_reject() -> None:
    orders = [
        order(1, "a", 5, {"price": 1.5, "pieces": 2}, {"price": 2, "time": START + 9}, {"price": 1, "pieces": -1}),
        order(2, "b", 7),
        order(3, "a", 90, {"price": 1}, {"price": -1}, {"price": 1}),
        order(4, "b", 6, {"price": 3}),
    ]
    batch = decode(orders)
    assert len(batch) == 4
    assert batch.users == [b"a", b"b", b"", b"b"]
    assert [REASONS[code] for code in batch.reason.tolist()] == ["", "", "bad_price", ""]
    assert batch.record.tolist() == [0, 0, 0, 3]
    assert batch.amount.tolist() == [300, 200, -100, 300]
    assert batch.key.tolist() == [START + 9] * 4  # the rejected one does not move it
    assert len(set(batch.event_id.tolist())) == 4
    assert len(set(batch.order.tolist())) == 2
    assert batch.rejects[2].value == json.dumps(orders[2]).encode()


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        ({"price": "x"}, "bad_type", "lines.price"),
        ({"price": 10**400}, "bad_price", "lines.price"),
        ({"time": NOW + 10**9}, "time_ahead", "event_time"),
        ({"pieces": 10**10}, "bad_quantity", "quantity"),
    ],
)
def test_one_bad_line_rejects_the_order(line: dict[str, Any], reason: str, detail: str) -> None:
    batch = decode([order(1, "a", 1, {"price": 1}, line)])
    assert (batch.rejects[0].reason, batch.rejects[0].detail) == (reason, detail)
    assert len(batch.record) == 0


def test_select_takes_records_with_their_events() -> None:
    batch = decode([order(i, "a", i, *[{"price": i}] * (i % 3)) for i in range(7)])
    chosen = batch.select(np.array([5, 0, 4, 2]))
    assert chosen.offset.tolist() == [5, 0, 4, 2]
    assert chosen.record.tolist() == [0, 0, 2, 3, 3]
    assert chosen.amount.tolist() == [500, 500, 400, 200, 200]


def test_fetches_one_after_the_other_are_one_fetch() -> None:
    orders = [order(i, "a", i, *[{"price": -1 if i == 4 else i}] * (i % 3)) for i in range(8)]
    whole = decode(orders)
    first = decode(orders[:3])
    second = ORDERS.decode(fetch(orders[3:], first=3), source=1, key_before=int(first.key[-1]), now=NOW)
    joined = concatenate([first, second])
    for name in (*RECORD_COLUMNS, *EVENT_COLUMNS, "record"):
        assert (getattr(joined, name) == getattr(whole, name)).all(), name
    assert (joined.users, joined.rejects) == (whole.users, whole.rejects)


# -- the processor ----------------------------------------------------------------------------------------------------

LINES = st.builds(
    lambda price, pieces, time: {"price": price, "pieces": pieces} | ({} if time is None else {"time": START + time}),
    st.sampled_from([1.5, 20, None, -1]),  # one in four is bad
    st.sampled_from([1, 2, -1, None]),
    st.one_of(st.none(), st.integers(0, 40 * windows.DAY * windows.UNIT)),
)
USERS = st.sampled_from(["a", "b", "c"])
TIMES = st.one_of(st.integers(0, 3_600_000), st.integers(0, 80 * windows.DAY * windows.UNIT))
LOGS = st.tuples(
    st.lists(
        st.builds(lambda user, time: {"user_id": user, "event_time": START + time, "event_type": "view"}, USERS, TIMES),
        max_size=12,
    ),
    st.lists(st.builds(order, st.integers(0, 6), USERS, TIMES, LINES, LINES, LINES), max_size=6).flatmap(
        lambda full: st.lists(st.builds(order, st.just(9), USERS, TIMES), max_size=3).flatmap(
            lambda empty: st.permutations(full + empty)
        )
    ),
)


class Shop:
    """A partition whose processor may be killed at any moment: what was not flushed is lost with it."""

    def __init__(self, logs: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
        self._logs = dict(zip(SOURCES, logs, strict=True))
        self.ends = {name: len(log) for name, log in self._logs.items()}
        self._stored: tuple[dict[bytes, bytes], Any] = ({}, None)
        self.outputs: list[tuple[str, Record]] = []
        self.counts: Counter[str] = Counter()
        self.applied: list[int] = []  # source of each record, as the journal has them
        self.kill()
        self.flush()  # swaps to the version before any record

    def kill(self) -> None:
        store = MemoryStore()
        store.put_many(self._stored[0], self._stored[1] or {})
        self.processor = PartitionProcessor(RULE, DECODE, store, TOPICS, journal=True, accept_rejects=True)
        self._store = store
        self.processor.adopt(VERSION)

    def read(self, source: str, count: int) -> None:
        first = self.processor.queued_ends()[source]
        records = self._logs[source][first : first + count]
        if records:
            assert self.processor.add(fetch(records, source, first))

    def flush(self) -> None:
        self.processor.run(NOW, self.ends)
        while self.processor.continue_pass(10) or self.processor.sweep(10):
            pass
        flush = self.processor.cut(NOW)
        self.counts += self.processor.counts
        self.processor.counts.clear()
        if flush is None:
            return
        self._stored = dict(self._store.rows) | flush.rows, dict.fromkeys(self._store.index, b"")
        self._collect(flush)

    def _collect(self, flush: Flush) -> None:
        for (topic, _), records in flush.outputs.items():
            self.outputs += [(topic, record) for record in records]
        data = flush.rows[PROGRESS_KEY]
        assert data is not None
        for kind, source, number in progress.loads(data).journal:
            if kind == Entry.RECORDS:
                self.applied += [source] * number

    @property
    def done(self) -> bool:
        return self.processor.positions() == self.ends

    def evidence(self) -> tuple[Any, ...]:
        """What must be the same for all fetches, flushes and kills."""
        rows = {key: row for key, row in self._store.rows.items() if key != PROGRESS_KEY}
        by_topic: dict[tuple[str, bytes | None], list[Any]] = {}
        for topic, (key, value, headers) in self.outputs:
            if topic in ("changes", "segments", "dead"):
                by_topic.setdefault((topic, key), []).append((value, headers))
        names = ("events", "repeated", "ended")
        rejects = {name: count for name, count in self.counts.items() if name.startswith("reject:")}
        return rows, by_topic, self.applied, rejects, [self.counts[name] for name in names]


VERSION = version(1, 3)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(LOGS, st.data())
def test_any_fetches_flushes_and_kills_give_the_same(
    logs: tuple[list[dict[str, Any]], list[dict[str, Any]]], data: st.DataObject
) -> None:
    whole, other = Shop(logs), Shop(logs)
    for source in SOURCES:
        whole.read(source, 100)
    whole.flush()
    while not other.done:
        action = data.draw(st.sampled_from(["fetch", "fetch", "flush", "kill"]))
        if action == "fetch":
            other.read(data.draw(st.sampled_from(SOURCES)), data.draw(st.integers(1, 4)))
        elif action == "flush":
            other.flush()
        else:
            other.processor.run(NOW, other.ends)  # and is killed before it is flushed
            other.kill()
    other.flush()
    assert other.evidence() == whole.evidence()
    records = sum(map(len, logs))
    assert len(whole.applied) == whole.counts["events"] == whole.processor.progress.ordinal == records
    bad = [one for one in logs[1] if any(line["price"] == -1 for line in one["lines"])]
    assert whole.counts["reject:bad_price"] == len(bad) == sum(topic == "dead" for topic, _ in whole.outputs)


def processor(**options: Any) -> PartitionProcessor:
    return PartitionProcessor(options.pop("rule", RULE), DECODE, MemoryStore(), TOPICS, **options)


def test_lines_are_purchases_of_one_order_and_a_repeated_order_adds_nothing() -> None:
    store = MemoryStore()
    shop = PartitionProcessor(RULE, DECODE, store, TOPICS)
    orders = [order(1, "a", 5, *[{"price": 2, "pieces": 1}] * 3), order(2, "a", 5)]
    shop.add(fetch([*orders, *orders]))
    assert shop.run(NOW, {"clickstream": 0, "orders": 4}) == 4
    _, sums = window_sums([store.rows[b"a"]], START + 10)
    measured = {name: int(sums[0, -1, VOCABULARY.column(name)]) for name in ("orders", "items", "spend")}
    assert measured == {"orders": 1, "items": 3, "spend": 600}
    assert (shop.counts["events"], shop.counts["repeated"]) == (4, 3)


def test_a_change_names_the_record_of_its_event() -> None:
    shop = processor()
    shop.adopt(VERSION)
    shop.cut(NOW)
    shop.add(fetch([order(1, "a", 1), order(2, "a", 2, *[{"price": 2}] * 3), order(3, "b", 3, {"price": 2})]))
    shop.run(NOW, {"clickstream": 0, "orders": 3})
    flush = shop.cut(NOW)
    assert flush is not None
    first = {}
    for key, value, _ in flush.outputs["changes", 0]:
        first.setdefault(key, json.loads(value or b"")["data"]["record"])
    assert first == {
        user: {"topic": "orders", "partition": 0, "offset": offset} for user, offset in ((b"a", 1), (b"b", 2))
    }


def test_records_without_events_move_the_offset_and_are_no_rejects() -> None:
    shop = processor(reject_window=10)
    shop.add(fetch([order(i, "a", 5) for i in range(20)]))
    assert shop.run(NOW, {"clickstream": 0, "orders": 20}) == 20
    flush = shop.cut(NOW)
    assert flush is not None
    assert (flush.acked["orders"], flush.outputs, list(flush.rows)) == (20, {}, [PROGRESS_KEY])
    assert (shop.progress.ordinal, shop.progress.users, shop.progress.reject_counts) == (20, 0, {})


@pytest.mark.parametrize(("bad", "stops"), [(5, False), (6, True)])
def test_the_share_of_rejects_is_one_of_records(bad: int, stops: bool) -> None:
    shop = processor(reject_window=10)
    orders = [order(i, "a", i, {"price": -1}, {"price": -1}) for i in range(bad)]
    orders += [order(i, "a", i) for i in range(bad, 10)]
    shop.add(fetch(orders))
    shop.run(NOW, {"clickstream": 0, "orders": 10})
    assert (shop.progress.stopped is not None) == stops


def test_an_order_of_a_user_of_another_partition_is_one_dead_letter() -> None:
    rule = PartitionConfig(sources=SOURCES, placed=lambda keys: np.array([int(key != b"a") for key in keys]))
    shop = processor(rule=rule)
    orders = [order(1, "b", 5, {"price": 1}, {"price": 2}), order(2, "a", 5, {"price": 1})]
    shop.add(fetch(orders))
    shop.run(NOW, {"clickstream": 0, "orders": 2})
    flush = shop.cut(NOW)
    assert flush is not None
    ((key, value, headers),) = flush.outputs["dead", 0]
    assert (key, value) == (b"b", json.dumps(orders[0]).encode())
    assert dict(headers)["reason"] == b"wrong_partition"
    assert shop.counts["reject:wrong_partition"] == 1
    assert set(flush.rows) == {b"a", PROGRESS_KEY}


def test_a_user_is_not_forgotten_between_two_lines_of_an_order() -> None:
    late = START + 50 * windows.DAY * windows.UNIT
    shop = processor()
    shop.add(fetch([order(1, "a", 0, {"price": 1}, {"price": 1, "time": late})]))
    shop.run(NOW, {"clickstream": 0, "orders": 1})
    assert (shop.progress.users, shop.counts["ended"]) == (1, 0)
    shop.add(fetch([order(2, "a", 90 * windows.DAY * windows.UNIT, {"price": 1}, {"price": 1})], first=1))
    shop.run(NOW, {"clickstream": 0, "orders": 2})
    assert (shop.progress.users, shop.counts["ended"]) == (1, 1)


# -- repartitioning ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(LOGS.map(lambda logs: logs[1]), min_size=1, max_size=3), st.data())
def test_repartitioning_sends_orders_whole_and_in_one_order(
    logs: list[list[dict[str, Any]]], data: st.DataObject
) -> None:
    def play(size: int | None) -> tuple[dict[tuple[str, int], list[Any]], list[Source]]:
        made = repartition.Progress(logs=[Source() for _ in logs])
        service = RepartitionProcessor(made, ORDERS, topic="orders", dead_letters="dead", partitions=2, limits=None)
        ends = {i: len(log) for i, log in enumerate(logs)}
        outputs: dict[tuple[str, int], list[Any]] = {}
        while any(service.position(i) < ends[i] for i in ends):
            for partition, log in enumerate(logs):
                first = service.position(partition)
                part = log[first : first + (size or data.draw(st.integers(1, 4)))]
                if part:
                    batch = fetch(part, "raw", first)
                    assert service.add(replace(batch, partition=partition), NOW)
            service.run(ends)
        service.run(ends)
        cut = service.cut(NOW)
        assert cut is not None
        for place, sent in cut.outputs.items():
            outputs[place] = [(key, value) for key, value, _ in sent.records]
        return outputs, service.progress.logs

    assert play(None) == play(100)
    outputs, _ = play(100)
    assert sum(map(len, outputs.values())) == sum(map(len, logs))  # with bad lines, too: who decodes them rejects them


# -- files and dead letters -------------------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(SCHEMAS, "order-lines", Registered(OrderLines, "orders"))
    return "order-lines"


def test_backfill_reads_orders_as_the_worker_does(registered: str, tmp_path: Path) -> None:
    orders = [
        order(i, f"u{i % 5}", i * 60_000, *[{"price": -1 if i % 9 == 8 else 1 + i, "pieces": 1}] * (i % 4))
        for i in range(60)
    ]
    path = tmp_path / "orders.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in orders))
    chosen = load(environ={}, **{"topics.partitions": 1})
    filed = MemoryStore()
    rejects = backfill(chosen, path, registered, filed, tmp_path)
    full = [one for one in orders if one["lines"]]  # a row without events is left out
    store = MemoryStore()
    shop = PartitionProcessor(
        PartitionConfig(sources=("orders",)), decoder([ORDERS]), store, TOPICS, accept_rejects=True
    )
    for first in range(0, len(full), 7):
        shop.add(fetch(full[first : first + 7], first=first))
        shop.run(NOW, {"orders": len(full)})
    assert filed.rows == {key: row for key, row in store.rows.items() if key != PROGRESS_KEY}
    assert rejects == shop.counts["reject:bad_price"] == sum(i % 9 == 8 and i % 4 > 0 for i in range(60))


def test_replay_sends_a_record_for_each_line(registered: str, tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    lines = [{"price": 1, "pieces": 2, "category": "c"}, {"price": 2, "time": START + 9}]
    path.write_text(json.dumps(order(1, "a", 5, *lines)) + "\n" + json.dumps(order(2, "a", 5)) + "\n")
    (sent,) = read_events(path, registered)
    assert [(one.key, one.timestamp, one.bought) for one in sent] == [(b"a", START + 5, True), (b"a", START + 9, True)]
    own = RecordBatch("t", 0, 0, 1, [0, 1], [b"a"] * 2, [one.value for one in sent], [NOW] * 2)
    ours = FlatJson().decode(own, source=0, key_before=-1, now=NOW)
    theirs = decode([order(1, "a", 5, *lines)])
    assert len(ours) == 2
    for column in ("time", "amount", "quantity", "event_id", "order", "category"):
        assert (getattr(ours, column) == getattr(theirs, column)).all(), column


def test_a_repaired_order_is_sent_back_under_its_customer() -> None:
    headers = {"reason": "bad_price", "detail": "price", "topic": "orders", "partition": 0, "offset": 4, "timestamp": 5}
    dead = from_record(0, 7, NOW, b"session", b"{}", [(name, str(text).encode()) for name, text in headers.items()])
    assert dead is not None
    assert not isinstance(dead, str)
    for lines, fault in (([{"price": 1}, {"price": 2}], None), ([], None), ([{"price": -1}], "bad_price (price)")):
        line = RepairedLine("0-7", "orders", 0, 4, value=order(1, "a", 5, *lines))
        good, faults = check_repaired({1: line}, {"0-7": dead}, {"orders": ORDERS}, NOW)
        assert faults == ({} if fault is None else {1: fault})
        assert [type(one) for one in good] == ([RepairedRecord] if fault is None else [])
        assert [one.key for one in good] == ([b"a"] if fault is None else [])
