"""The same training rows give the same versions, byte for byte: under any hash seed, with any number of workers, and
though the learner is killed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest

from online_models.version import Version, dumps, loads
from state import features
from state.history import LIFETIME, Steps
from state.vocabulary import VOCABULARY
from streams.config.settings import Settings
from streams.processing.outputs import training_records
from tests.processes import committed, deployment, start, wait_for
from tests.support.sending import Message, send

pytestmark = pytest.mark.kafka
ROWS, EVERY = 2_400, 300
VERSIONS = ROWS // EVERY
SMALL = {
    "topics.partitions": 1,
    "learner.first_rows": EVERY,
    "learner.every_rows": EVERY,
    "learner.every": 1e6,
    "learner.window": 900,
}


def records() -> list[tuple[bytes, bytes]]:
    """Rows of 300 users of four kinds, the kinds drifting, each user again and again."""
    rng = np.random.default_rng(5)
    user, kind = rng.integers(0, 300, ROWS), np.arange(300) % 4
    width = 2 * features.R + len(features.PLAIN)
    centre = rng.uniform(0, 9, (4, width))
    raw = np.floor(np.maximum(0, centre[kind[user]] + rng.normal(0, 1, (ROWS, width)) + np.arange(ROWS)[:, None] / 900))
    none = np.zeros(ROWS, np.int64)
    now = 1_700_000_000_000 + np.arange(ROWS) * 60_000
    steps = Steps(
        none,
        now,
        none,
        none.astype(bool),
        np.zeros((0, 4, len(VOCABULARY.measures)), np.int64),
        none,
        none,
        np.ones((ROWS, len(LIFETIME)), np.int64),
        none.astype(bool),
    )
    columns = training_records.layout(features.NAMES)
    values = training_records.encode(none.astype(np.int8), steps, np.arange(ROWS), now // 300_000, columns, raw)
    keys = training_records.pseudonyms([b"%d" % one for one in user.tolist()], b"k")
    return list(zip(keys, values, strict=True))


def fill(settings: Settings, rows: list[tuple[bytes, bytes]]) -> None:
    send(settings, settings.topic("training_rows"), [Message(value, key, 0) for key, value in rows])


def versions(settings: Settings) -> list[Version]:
    found = {int(r.key): loads(r.value) for r in committed(settings, settings.topic("models"), 1)}
    return [found[number] for number in sorted(found)]


def test_any_hash_seed_any_workers_and_a_kill(kafka: str, prefix: str, tmp_path: Path) -> None:
    rows = records()
    told: list[list[bytes]] = []
    for name, workers, killed in (("one", 1, False), ("four", 4, False), ("killed", 1, True)):
        settings = deployment(kafka, f"{prefix}{name}-", **SMALL)
        fill(settings, rows[: ROWS // 2])
        with ExitStack() as stack:
            running = [
                start(settings, tmp_path / name / str(i), "worker", environ={"PYTHONHASHSEED": str(len(told) * 7 + i)})
                for i in range(workers)
            ]
            for process in running:
                stack.callback(process.wait)
                stack.callback(process.kill)
            if killed:
                wait_for(lambda settings=settings: len(versions(settings)) >= 2, "two versions")  # type: ignore[misc]
                running[0].kill()
                running[0].wait()
                again = start(settings, tmp_path / name / "again", "worker")
                stack.callback(again.wait)
                stack.callback(again.kill)
            fill(settings, rows[ROWS // 2 :])
            wait_for(lambda settings=settings: len(versions(settings)) >= VERSIONS, "all versions")  # type: ignore[misc]
        found = versions(settings)
        assert [one.number for one in found] == list(range(1, VERSIONS + 1))
        assert [bool(one.state) for one in found] == [False] * (VERSIONS - 1) + [True]
        told.append([dumps(msgspec.structs.replace(one, checksum="")) for one in found])
    assert told[0] == told[1] == told[2]
