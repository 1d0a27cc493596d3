"""`shoal train` on a real Kafka: what it offers, what it goes on from, how it ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from online_models.encoder.encoder import loads
from online_models.learner import control_messages
from online_models.learner.control_messages import ControlMessage
from online_models.training_rows import SAMPLE_ROW
from state import features
from streams.config.settings import Settings
from streams.processing.outputs import training_records
from tests.embeddings.planted import shoppers
from tests.processes import committed, deployment, start, wait_for
from tests.support import sending
from tests.support.forks import Process
from tests.support.sending import Message

pytestmark = pytest.mark.kafka
PLAN = {
    "FIRST_ROWS": "400",
    "WINDOW": "1500",
    "EPOCHS": "15",
    "HIDDEN": "[16]",
    "LATENT": "4",
    "THREADS": "1",
    "EVERY": "600.0",
}


def send(settings: Settings, raw: np.ndarray, seed: int = 1) -> None:
    """Rows to learn from, of as many users."""
    head = np.zeros(1, training_records._HEAD)
    head["columns"], head["kind"] = training_records.layout(features.NAMES), SAMPLE_ROW
    users = np.random.default_rng(seed).bytes(16 * len(raw))
    rows = [
        Message(head.tobytes() + line.tobytes(), users[16 * i : 16 * i + 16], 0)
        for i, line in enumerate(raw.astype("<f8"))
    ]
    sending.send(settings, settings.topic("training_rows"), rows)


def candidates(settings: Settings) -> list[ControlMessage]:
    found = committed(settings, settings.topic("training_rows"), 1)
    told = [control_messages.decode(record.value) for record in found if record.key == control_messages.KEY]
    assert all(isinstance(one, ControlMessage) for one in told)
    return [one for one in told if isinstance(one, ControlMessage)]


def begun(settings: Settings, folder: Path, *options: str, **environ: str) -> Process:
    plan = {f"SHOAL_TRAINER__{name}": value for name, value in (PLAN | environ).items()}
    datadir = {"SHOAL_TRAINER__DATADIR": str(folder / "window")}
    return start(settings, folder, "train", *options, environ=datadir | plan)


def ended(process: Process, folder: Path) -> tuple[int, str]:
    return process.wait(240), (folder / "worker.log").read_text()


@contextmanager
def running(settings: Settings, folder: Path, **environ: str) -> Iterator[Process]:
    process = begun(settings, folder, **environ)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def told(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_once(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = deployment(kafka, prefix)
    send(settings, shoppers(1, 399)[0])
    status, log = ended(begun(settings, tmp_path, "--once"), tmp_path)
    assert (status, candidates(settings)) == (10, [])
    assert "399 training rows, 400 are needed" in log

    send(settings, shoppers(2, 601)[0], 2)
    status, log = ended(begun(settings, tmp_path, "--once", "--json"), tmp_path)
    assert status == 0, log
    (one,), (found,) = candidates(settings), told(log)
    encoder = loads(one.encoder, features.NAMES, features.R)
    assert (one.action, one.request_id, encoder.ident) == ("candidate", found["request_id"], found["encoder"])
    assert found["rows"] + found["held"] == 1_000
    assert 100 < found["held"] < 300  # a fifth of the users judges
    assert [epoch["number"] for epoch in found["epochs"]] == list(range(1, 16))
    assert found["error"] == one.verdict["error"] < 0.8 * found["mean_error"]
    assert encoder.encode(encoder.features(shoppers(3, 5)[0])).shape == (5, 4)

    # goes on from its window, which holds no more than 1,500; the same rows again are not counted twice
    send(settings, shoppers(4, 1_200)[0], 3)
    status, log = ended(begun(settings, tmp_path, "--once", "--json"), tmp_path)
    assert status == 0, log
    found = told(log)[-1]
    assert found["rows"] + found["held"] == 1_500
    assert len({order.request_id for order in candidates(settings)}) == 2


def test_as_a_service(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = deployment(kafka, prefix)
    first, second = tmp_path / "first", tmp_path / "second"
    send(settings, shoppers(1, 1_000)[0])
    with running(settings, first) as process:
        wait_for(lambda: len(candidates(settings)) == 1, "the first candidate", 240)
        assert ended(begun(settings, first, "--once"), first)[0] == 6
        assert "another process uses it" in (first / "worker.log").read_text()
        process.kill()
    with running(settings, first) as process:
        wait_for(lambda: "owner, 1,000 rows in the window" in (first / "worker.log").read_text(), "a successor")
        # shoppers of no kind that it knows: it trains anew, long before its time
        strange = shoppers(5, 1_000)[0]
        strange[:, : features.R] = np.random.default_rng(1).permuted(strange[:, : features.R], axis=0)
        send(settings, strange, 4)
        wait_for(lambda: len(candidates(settings)) == 2, "another candidate", 360)
        assert "training: reconstruction error rose from 0." in (first / "worker.log").read_text()
        with running(settings, second) as other:
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
            wait_for(lambda: "owner, 0 rows in the window" in (second / "worker.log").read_text(), "another owner")
            other.send_signal(signal.SIGTERM)
            assert other.wait(120) == 0


def test_without_topics(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = deployment(kafka, prefix).model_copy(update={"prefix": f"{prefix}other-"})
    status, log = ended(begun(settings, tmp_path, "--once"), tmp_path)
    assert status == 5, log
    assert f"missing: {settings.topic('training_rows')}" in log
