"""Bad records on real Kafka: each is one dead letter, its neighbours count exactly, the worker lives on."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from streams.config.settings import Settings
from streams.processing.partitioner import partitions_of
from tests.processes import applied, committed, deployment, views, wait_for, worker
from tests.support import sending
from tests.support.events.rejects import MARK, Record, event, odd, poison
from tests.support.sending import Message

pytestmark = pytest.mark.kafka
CUT = 524_288  # bytes of a value that a dead letter holds at most
At = tuple[str, int, int]  # topic, partition, offset
Placed = tuple[Record, int | None]  # by the default partitioner, unless a partition is named


def send(settings: Settings, topic: str, records: Sequence[Placed]) -> dict[At, Record]:
    """Send in order; what lies where."""
    found = sending.send(settings, topic, [Message(r.value, r.key, at, r.stamp) for r, at in records])
    return {(one.topic, one.partition, one.offset): r for one, (r, _) in zip(found, records, strict=True)}


def check_letters(settings: Settings, expected: dict[At, Record]) -> None:
    """Each reject lies there once, with its own key and bytes, and headers that say where it was and why."""
    letters: dict[At, ConsumerRecord] = {}
    for letter in committed(settings, settings.topic("dead_letters")):
        h = dict(letter.headers)
        at = (h["topic"].decode(), int(h["partition"]), int(h["offset"]))
        assert at not in letters, f"{at} twice"
        letters[at] = letter
    assert set(letters) == set(expected)
    for at, record in expected.items():
        letter, value = letters[at], record.value
        headers = dict(letter.headers)
        detail = headers.pop("detail").decode()
        wanted = {"reason": record.reason, "timestamp": record.stamp}
        wanted |= dict(zip(("topic", "partition", "offset"), at, strict=True))
        if value is not None and len(value) > CUT:
            wanted |= {"length": len(value), "sha256": hashlib.sha256(value).hexdigest()}
            value = value[:CUT]
        assert headers == {name: str(what).encode() for name, what in wanted.items()}
        assert len(letter.headers) == len(headers) + 1
        assert (letter.key, letter.value) == (record.key, value)
        assert MARK not in detail
        assert len(detail) < 60


def view(user: str, now: int) -> Record:
    return Record("", json.dumps(event(user, now)).encode(), user.encode(), now)


def corpus(settings: Settings, topic: str, now: int) -> list[Placed]:
    """Everything odd, of a user each, and everything bad, each between views of 40 good users."""
    each: list[Placed] = [(odd(f"{MARK} {topic} odd {i}", now)[name], None) for i, name in enumerate(odd("", now))]
    each += [(record, None) for record in poison(f"{MARK} {topic} bad", now).values()]
    stranger = replace(view(f"{MARK} {topic} stranger", now), reason="wrong_partition")
    elsewhere = 1 - int(partitions_of([stranger.key or b""], settings.topics.partitions)[0])
    each += [(stranger, elsewhere)] * 2
    return [at for i, one in enumerate(each) for at in ((view(f"{MARK} good {i % 40}", now - 1_000 + i), None), one)]


def test_each_bad_record_is_one_dead_letter_and_harms_nobody(kafka: str, prefix: str, tmp_path: Path) -> None:
    # users whose event is of 1970 would be forgotten once five minutes are over
    passed = {"topics.partitions": 2, "state.max_poll_records": 60, "forget_after": 36_500.0}
    settings = deployment(kafka, prefix, **passed)
    now = int(time.time() * 1000)
    sent: dict[At, Record] = {}
    for topic in settings.source_topics:
        sent |= send(settings, topic, corpus(settings, topic, now))
    with worker(settings, tmp_path) as process:
        wait_for(lambda: process.poll() is not None or applied(settings) == len(sent), "the corpus")
        later: list[Placed] = [(view(f"{MARK} good {i}", now + 1_000), None) for i in range(40)]
        sent |= send(settings, settings.source_topics[0], later)
        wait_for(lambda: process.poll() is not None or applied(settings) == len(sent), "what came later")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    check_letters(settings, {at: record for at, record in sent.items() if record.reason})
    good = [json.loads(r.value or b"") for r in sent.values() if not r.reason]
    expected = Counter({str(e["user_id"]).encode(): 0 for e in good})
    expected.update(str(e["user_id"]).encode() for e in good if e["event_type"] == "view")
    assert views(settings) == dict(expected)
    log = (tmp_path / "worker.log").read_text()
    assert MARK not in log
    assert "Traceback" not in log


def test_most_records_bad_stops_the_worker_until_told_otherwise(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = deployment(kafka, prefix, **{"topics.partitions": 1})
    now = int(time.time() * 1000)
    good = [view(f"{MARK} {i % 50}", now) for i in range(9_000)]
    text = Record("not_json", MARK.encode(), b"u", now)
    other = replace(view("u", now), reason="key_mismatch", key=MARK.encode())
    mixed = [(good[i], (text, other, other)[i % 3], other if i % 2 else text) for i in range(4_000)]
    records = [*(one for three in mixed for one in three), *good[4_000:]]  # two of three are bad, then none
    sent = send(settings, settings.source_topics[0], [(record, None) for record in records])
    rejects = {at: r for at, r in sent.items() if r.reason}
    with worker(settings, tmp_path) as process:
        assert process.wait(90) == 8
    told = (tmp_path / "worker.log").read_text()
    assert re.search(r"666\d of 10000 records in a row are rejects, mostly 'key_mismatch'.*--accept-rejects", told)
    reached = applied(settings)
    assert 10_000 <= reached <= len(sent)
    check_letters(settings, {at: r for at, r in rejects.items() if at[2] < reached})
    assert sum(views(settings).values()) == sum(not r.reason for at, r in sent.items() if at[2] < reached)
    with worker(settings, tmp_path, "--accept-rejects") as process:
        wait_for(lambda: process.poll() is not None or applied(settings) == len(sent), "the end")
        assert process.poll() is None
    check_letters(settings, rejects)
    assert views(settings) == Counter(r.key for r in good)
    assert MARK not in (tmp_path / "worker.log").read_text()
