"""`shoal models` and `shoal segments` on real Kafka: what a learner has published, compared and made once more."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from click.testing import CliRunner, Result

from online_models.clustering.scaler import Scaler
from online_models.encoder.encoder import Encoder, build
from online_models.encoder.encoder_file import Layer
from online_models.learner.control_messages import ControlMessage
from online_models.version import dumps, loads
from state import features
from streams.cli import cli
from streams.kafka import changelog, model_store, requests
from streams.kafka.requests import new_request_id
from streams.operations import tune
from tests.deployed import USERS, Deployed
from tests.processes import wait_for
from tests.support.sending import Message, send

pytestmark = pytest.mark.kafka
LEARNER = {
    "learner.k_least": 3,
    "learner.k_most": 3,
    "learner.first_rows": 30,
    "learner.every_rows": 20,
    "learner.window": 100,
}


@pytest.fixture(scope="module")
def shop(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A shop whose learner has published two versions or more, after which nothing more comes."""
    made = Deployed(kafka, f"{uuid4().hex[:10]}-", tmp_path_factory.mktemp("models"), **LEARNER)
    with made.run():
        send(made.settings, made.clicks, events())
        wait_for(lambda: newest(made) >= 2, "two versions")
        wait_for(lambda: judged(made) == USERS, "the passes")
    return made


def events() -> Iterator[Message]:
    """Ten events of each of some users: who looks, who searches, who fills carts."""
    now = int(time.time() * 1000) - 1_800_000
    for i in range(10 * USERS):
        user, kind = f"user-{i % USERS}", ("view", "search", "add_to_cart")[i % USERS % 3]
        event = {"event_time": now + 5 * i, "event_type": kind, "user_id": user, "price": 1.5}
        yield Message(json.dumps(event).encode(), user.encode(), stamp=now + 5 * i)


def judged(made: Deployed) -> int:
    progress = asyncio.run(changelog.read_progress(made.settings))
    return sum(sum(part.sizes.values()) for part in progress.values() if part.cursor is None)


def newest(made: Deployed) -> int:
    return max(asyncio.run(model_store.read_versions(made.settings)), default=0)


def shoal(made: Deployed, *arguments: str, **environ: str) -> Result:
    names: dict[str, str | None] = {f"SHOAL_{name}": value for name, value in environ.items()}
    return CliRunner().invoke(cli, ["--config", str(made.folder / "shoal.toml"), *arguments], env=names)


def ok(made: Deployed, *arguments: str) -> Result:
    shown = shoal(made, *arguments)
    assert shown.exit_code == 0, shown.output
    return shown


def test_versions_are_listed_and_each_is_rebuilt_byte_for_byte(shop: Deployed) -> None:
    found = json.loads(ok(shop, "models", "list", "--json").stdout)
    numbers = [one["version"] for one in found]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [one["parent"] for one in found] == [0, *numbers[:-1]]
    for number in numbers:
        again = json.loads(ok(shop, "models", "rebuild", "--version", str(number), "--json").stdout)
        assert (again["version"], again["same"]) == (number, True)


def test_a_version_learned_otherwise_is_told_by_the_exit_code(shop: Deployed, tmp_path: Path) -> None:
    out = tmp_path / "again.model"
    told = shoal(shop, "models", "rebuild", "--version", "2", "-o", str(out), LEARNER__K_LEAST="4", LEARNER__K_MOST="4")
    assert told.exit_code == 6, told.output
    assert "version 2 differs from the published one" in told.stderr
    there = loads(asyncio.run(model_store.read_copies(shop.settings, 2))[0])
    assert (len(there.ids), len(loads(out.read_bytes()).ids)) == (3, 4)
    assert shoal(shop, "models", "rebuild", "--version", "99").exit_code == 10


def test_an_exported_version_is_what_was_published(shop: Deployed, tmp_path: Path) -> None:
    out = tmp_path / "1.model"
    ok(shop, "models", "export", "1", str(out))
    assert out.read_bytes() == dumps(asyncio.run(model_store.read_versions(shop.settings))[1])


def test_diff_and_list_are_about_all_users(shop: Deployed) -> None:
    told = json.loads(ok(shop, "models", "diff", "1", "2", "--json").stdout)
    assert told["users"] == sum(one["users"] for one in told["moves"]) == USERS
    segments = json.loads(ok(shop, "segments", "list", "--json").stdout)
    assert sum(one["users"] for one in segments) == USERS
    assert {one["segment"] for one in segments} >= set(
        loads(asyncio.run(model_store.read_copies(shop.settings, 2))[-1]).ids
    )
    assert isinstance(json.loads(ok(shop, "segments", "history", "--json").stdout), list)


def test_nothing_is_promoted_without_a_candidate(shop: Deployed) -> None:
    told = shoal(shop, "models", "promote")
    assert told.exit_code == 10
    assert "there is no encoder yet" in told.stderr
    assert "made of the windows already" in shoal(shop, "models", "promote", "--space", "windows").stderr


def test_tune_takes_the_rows_of_the_log_and_says_that_they_are_too_few(shop: Deployed, tmp_path: Path) -> None:
    told = shoal(shop, "tune", "--save", str(tmp_path / "rows.npz"))
    assert (told.exit_code, told.stdout) == (10, "")
    assert "too little to judge by: 0 rows" in told.stderr
    kept = tune.load(tmp_path / "rows.npz")
    assert len(kept) >= 50  # two versions
    assert len(np.unique(kept.user)) <= USERS


def test_an_order_that_nobody_answers_is_told(shop: Deployed) -> None:
    """It stays in the log, and is carried out by the next worker."""
    told = shoal(shop, "models", "rollback", "1", "--wait", "1")
    assert told.exit_code == 10
    assert "no receipt within 1 s: does a worker run?" in told.stderr
    assert shoal(shop, "models", "rollback", "77").exit_code == 10


def test_orders_are_carried_out_and_what_they_led_to_is_rebuilt(shop: Deployed) -> None:
    last = newest(shop)
    with shop.run():
        answer = json.loads(ok(shop, "models", "rollback", "1", "--json").stdout)["answer"]
        assert (answer["order"], answer["accepted"], answer["version"]) == ("rollback", True, last + 2)
        refused = shoal(shop, "models", "rollback", str(last + 2))
        assert refused.exit_code == 10
        assert "the learner refuses: version" in refused.stderr
        candidate = ControlMessage("candidate", new_request_id(), encoder=encoder().data)
        assert requests.send_control(shop.settings, candidate, 60)["accepted"]
    there = asyncio.run(model_store.read_versions(shop.settings))
    assert sorted(there) == list(range(1, last + 3))
    assert there[last + 2].centre_bytes == there[1].centre_bytes
    again = json.loads(ok(shop, "models", "rebuild", "--version", str(last + 2), "--json").stdout)
    assert again["same"]
    told = shoal(shop, "models", "promote", "--json")  # by the candidate in the log
    assert told.exit_code == 10
    assert "not promoted: too little to judge by" in told.stderr
    assert json.loads(told.stdout)["encoder"] == encoder().ident


def encoder() -> Encoder:
    """One that looks at the first feature alone."""
    names = features.NAMES
    down, up = np.zeros((1, len(names)), np.float32), np.zeros((len(names), 1), np.float32)
    down[0, 0] = 1.0
    scaler = Scaler([0.5] * features.R, [2.0] * features.R, [0.0] * len(names), [1.0] * len(names))
    layers = [Layer(one, np.zeros(len(one), np.float32)) for one in (down, up)]
    return build(names, scaler, layers[:1], layers[1:], far=1.0)


def test_rows_that_are_gone_are_told(shop: Deployed) -> None:
    """The last of these tests: it deletes them."""
    shop.empty(shop.settings.topic("training_rows"), 5)
    told = shoal(shop, "models", "rebuild", "--version", "1")
    assert told.exit_code == 10
    assert "begins at offset 5: the rows that version 1 was learned from are deleted" in told.stderr
