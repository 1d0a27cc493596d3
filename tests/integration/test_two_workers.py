"""Two workers started apart and one killed: one owner a partition, every event once, the newest version's segments."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from online_models.assignment import assign
from online_models.version import Version, loads
from state import features, row_windows, rows, windows
from state.vocabulary import VOCABULARY
from streams.config.settings import Settings
from streams.kafka import changelog
from streams.offline.demo import DATA, SCHEMA
from streams.offline.event_files import read_events
from streams.offline.replay import replay
from streams.operations.overview import overview
from streams.processing.partitioner import partitions_of
from streams.processing.progress import Progress
from streams.services.model_feed import read_newest
from tests.processes import committed, deployment, wait_for, worker

pytestmark = pytest.mark.kafka
RATE = 500.0  # events a second: some 35 seconds


def status(folder: Path) -> dict[str, Any]:
    """What the page of a worker says; nothing before it is there."""
    found = re.findall(r"worker on (http://\S+)", (folder / "worker.log").read_text())
    if not found:
        return {"ready": False, "partitions": {}}
    with urllib.request.urlopen(f"{found[-1]}/status", timeout=10) as page:
        told: dict[str, Any] = json.load(page)
        return told


def judged(stored: dict[bytes, bytes], progress: dict[int, Progress], version: Version) -> np.ndarray:
    """Segments by the newest version, as of what was swept or a row's later clock, of users who may stay where they are
    while no other centre is much nearer."""
    joined = rows.join(list(stored.values()))
    heads = joined.heads
    swept = np.array([progress[number].swept for number in partitions_of(list(stored), len(progress)).tolist()])
    now = np.maximum(heads["clock"], swept)
    at = np.arange(len(heads))
    sums = row_windows.window_sums(joined, now // windows.UNIT)
    raw = features.raw(sums, heads["hours"].astype(np.int64))
    return assign(version, raw, at, heads["segment"].astype(np.int64)).segment


def states(settings: Settings) -> dict[int, bool]:
    """Whether each version in `models` carries the learner's state."""
    return {int(r.key): bool(loads(r.value).state) for r in committed(settings, settings.topic("models"), 1)}


def test_two_workers_and_one_is_killed(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = deployment(
        kafka, prefix, **{"learner.first_rows": 300, "learner.every_rows": 400, "learner.every": 1800.0}
    )
    sending = threading.Thread(target=lambda: replay(settings, read_events(DATA, SCHEMA), rate=RATE), daemon=True)
    one, two = tmp_path / "one", tmp_path / "two"
    with worker(settings, one) as first:
        wait_for(lambda: status(one)["ready"], "the first worker")
        sending.start()
        wait_for(lambda: status(one)["counts"].get("events", 0) > 3_000, "some events")
        with worker(settings, two):
            shares: list[set[str]] = []

            def shared() -> bool:
                told = [status(folder) for folder in (one, two)]
                shares[:] = [set(now["partitions"]) for now in told]
                return all(now["ready"] and share for now, share in zip(told, shares, strict=True))

            wait_for(shared, "the second one's share")
            assert sorted([*shares[0], *shares[1]]) == ["0", "1", "2", "3"]
            assert len({part["owner"] for part in overview(settings)}) == 2
            wait_for(lambda: status(two)["counts"].get("events", 0) > 1_000, "the second one's events")
            first.kill()
            wait_for(lambda: len(status(two)["partitions"]) == 4, "the second one to take over")
            sending.join(120)

            def settled() -> bool:
                now = status(two)
                parts = now["partitions"].values()
                return sum(s["offset"] for p in parts for s in p["sources"].values()) == 17_435 and all(
                    p["model_version"] == now["newest_version"] and not p["pass_under_way"] for p in parts
                )

            wait_for(settled, "the last record and the last pass")
            wait_for(lambda: all(not p["sources"][t]["lag"] for p in overview(settings) for t in p["sources"]), "flush")
            found: list[Any] = []

            def consistent() -> bool:
                """A version may still come: rows and progress are looked at with the version that was newest before
                and after they were read, once its pass is over."""
                version = asyncio.run(read_newest(settings))
                assert version is not None
                stored, progress = asyncio.run(changelog.read(settings))
                found[:] = [stored, progress, version, states(settings)]
                again = asyncio.run(read_newest(settings))
                return (
                    again is not None
                    and again.number == version.number
                    and all((part.version, part.cursor) == (version.number, None) for part in progress.values())
                )

            wait_for(consistent, "the last pass in the changelog")
            stored, progress, version, kept = found
    assert version.number >= 3
    assert kept == {number: number == version.number for number in range(1, version.number + 1)}
    sent = Counter(line.key for chunk in read_events(DATA, SCHEMA) for line in chunk)
    views_carts_orders = VOCABULARY.columns(("product_views", "carts", "items"))
    heads = rows.join(list(stored.values())).heads
    counted = heads["totals"][:, views_carts_orders].sum(1).tolist()
    assert dict(zip(stored, counted, strict=True)) == dict(sent)
    assert heads["segment"].tolist() == judged(stored, progress, version).tolist()
