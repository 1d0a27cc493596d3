"""Time alone moves users, forgets them, and an erasure takes them out: a real worker, real topics."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.config.settings import Settings
from streams.errors import DataError
from streams.kafka import changelog, requests
from streams.processing.partitioner import partitions_of
from tests.build import stream
from tests.processes import SHOAL, applied, committed, deployment, wait_for, worker
from tests.support.forks import run
from tests.support.sending import Message, send

pytestmark = pytest.mark.kafka
DAY = 86_400_000


def message(event: dict[str, Any]) -> Message:
    return Message(json.dumps(event).encode(), event["user_id"].encode(), stamp=event["event_time"])


def changes(settings: Settings) -> list[dict[str, Any]]:
    records = committed(settings, settings.topic("segment_changes"))
    return [json.loads(record.value)["data"] for record in records]


def test_expiry_erasure_and_oblivion(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = deployment(
        kafka, prefix, **{"learner.first_rows": 60, "learner.every_rows": 10**6, "forget_after": 60.0}
    )
    events = stream(np.random.default_rng(11), 3_000, 40)
    for event in events:
        event["price"] = abs(event["price"])
    last = max(event["event_time"] for event in events)
    send(settings, settings.source_topics[0], map(message, events))
    home = tmp_path / "one"
    with worker(settings, home, "--accept-rejects"):
        wait_for(lambda: applied(settings) == len(events), "all events")
        wait_for(lambda: {c["cause"] for c in changes(settings)} >= {"first"}, "a model")
        wait_for(lambda: all(p.cursor is None for p in progress(settings).values()), "the pass")
        before = len([c for c in changes(settings) if c["cause"] == "expiry"])
        receipts = requests.advance(settings, last + 32 * DAY, 60)
        assert [(one["partition"], one["result"]) for one in receipts] == [(n, "advanced") for n in range(4)]
        assert requests.advance(settings, last, 60)[0]["result"] == "unchanged"
        wait_for(lambda: all(p.swept == p.watermark for p in progress(settings).values()), "the sweep")
        expired = [c for c in changes(settings) if c["cause"] == "expiry"][before:]
        assert len(expired) > 10
        assert all(c["record"] is None and c["as_of"].endswith(("0:00.000Z", "5:00.000Z")) for c in expired)
        assert len(progress(settings)) == 4

        stored, _ = asyncio.run(changelog.read(settings))
        assert len(stored) == 40
        command = [*SHOAL, "--config", str(home / "shoal.toml"), "erase", "u3"]
        done = run(command)
        assert (done.returncode, done.stdout[:6]) == (0, "erased"), done.stderr
        assert requests.erase(settings, "u3", 60)["result"] == "unknown"
        assert b"u3" not in asyncio.run(changelog.read(settings))[0]
        mine = [c for c in changes(settings) if c["user"] == "u3"]
        assert (mine[-1]["to"], mine[-1]["cause"], mine[-1]["seq"]) == (None, "erased", mine[-2]["seq"] + 1)
        held = [r.value for r in committed(settings, settings.topic("segments")) if r.key == b"u3"]
        assert held[-1] is None
        assert all(b"u3" not in r.value for r in committed(settings, settings.topic("commands_results")))
        assert sum(part.users for part in progress(settings).values()) == 39

        late = {"event_time": last, "event_type": "view", "user_id": "u3", "event_id": "again"}
        send(settings, settings.source_topics[0], [message(late)])
        wait_for(lambda: b"u3" in asyncio.run(changelog.read(settings))[0], "a new row")
        wait_for(lambda: [c for c in changes(settings) if c["user"] == "u3"][-1]["cause"] == "first", "a new history")
        assert [c for c in changes(settings) if c["user"] == "u3"][-1]["seq"] == 1

        bad = [b"{", b'{"command": "erase", "request_id": "r"}']
        bad.append(b'{"command": "advance", "request_id": "r", "to": "x"}')
        send(settings, settings.topic("commands"), [Message(value, b"u3", stamp=last) for value in bad])
        stray = b'{"command": "erase", "request_id": "r", "user_id": "u3"}'
        elsewhere = next(b"u%d" % i for i in range(40) if not same(settings, b"u%d" % i, b"u3"))
        send(settings, settings.topic("commands"), [Message(stray, elsewhere, stamp=last)])

        def reasons() -> list[bytes]:
            return sorted(
                dict(r.headers)["reason"]
                for r in committed(settings, settings.topic("dead_letters"))
                if dict(r.headers)["topic"] == settings.topic("commands").encode()
            )

        wait_for(lambda: len(reasons()) == 4, "the dead letters")
        assert reasons() == [b"bad_command"] * 3 + [b"wrong_partition"]

        requests.advance(settings, last + 100 * DAY, 60)
        wait_for(lambda: not asyncio.run(changelog.read(settings))[0], "oblivion")
        gone = [c for c in changes(settings) if c["cause"] == "forgotten"]
        assert sorted(c["user"] for c in gone) == sorted(f"u{i}" for i in range(40))
        assert all(c["to"] is None for c in gone)
    with pytest.raises(DataError, match="no receipt within"):
        requests.erase(settings, "u1", 0.5)


def same(settings: Settings, one: bytes, other: bytes) -> bool:
    return len(set(partitions_of([one, other], settings.topics.partitions).tolist())) == 1


def progress(settings: Settings) -> dict[int, Any]:
    return asyncio.run(changelog.read_progress(settings))
