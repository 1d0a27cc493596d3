"""The bench that foretells: it sees nothing of the time that it foretells, and counts what came as the file says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from online_models.outcomes import HORIZON
from streams.offline.event_files import read_events
from tests.quality.predict import OUTCOMES, Field, main
from tests.quality.predictors import contenders
from tests.quality.shoppers import DAY, Shoppers, shoppers
from tests.support.events.month import write

ASKED, BEFORE = 9, 2  # days


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("month") / "month.jsonl.gz", seed=5, visits=1_500, users=200)


def folded(path: Path, home: Path, *days: int) -> tuple[Shoppers, int]:
    return shoppers(path, days, home, True, lambda done, size: None)


def test_scores_do_not_depend_on_what_comes_later(month: Path, tmp_path: Path) -> None:
    """The same from a file that ends at the time as of which is foretold."""
    whole, start = folded(month, tmp_path, BEFORE, ASKED)
    time = start + ASKED * DAY
    ending = tmp_path / "ending.jsonl"
    known = [line for chunk in read_events(month, "shoal") for line in chunk if line.timestamp <= time]
    ending.write_bytes(b"\n".join(line.value for line in known))
    short, _ = folded(ending, tmp_path, BEFORE, ASKED)
    for outcome in OUTCOMES:
        scored = []
        for data in (whole, short):
            # of a cart: as if all came back, for who does is what comes later
            one = Field(outcome, np.flatnonzero(data.time == time), Field.of(data, [time], outcome).known, data)
            for name, make in contenders(data, (3,)).items():
                one.take(name, make)
            scored.append(one.scores)
        long, brief = scored
        assert list(long) == list(brief)
        assert "segments on the windows" in long
        for name, scores in long.items():
            assert scores.tolist() == brief[name].tolist(), name


def test_what_came_is_what_a_plain_loop_finds_in_the_file(month: Path, tmp_path: Path) -> None:
    data, start = folded(month, tmp_path, ASKED)
    time = start + ASKED * DAY
    events = sorted((line for chunk in read_events(month, "shoal") for line in chunk), key=lambda line: line.timestamp)
    number = {user: i for i, user in enumerate(dict.fromkeys(line.key for line in events))}
    bought, first, filled = set(), {}, set()
    begun: dict[tuple[int, str], int] = {}
    for i, line in enumerate(events):
        told, user = json.loads(line.value), number[line.key]
        session = (user, told.get("session_id") or f"alone {i}")
        begun.setdefault(session, line.timestamp)
        if time < begun[session] <= time + HORIZON:
            first.setdefault(user, session)
            if told["event_type"] == "add_to_cart":
                filled.add(session)
        if told["event_type"] == "purchase" and time < line.timestamp <= time + HORIZON:
            bought.add(user)
    users = data.user.tolist()
    assert len(users) == len(set(users)) == len({line.key for line in events if line.timestamp <= time})
    assert data.bought.tolist() == [user in bought for user in users]
    assert data.returned.tolist() == [user in first for user in users]
    assert data.carted.tolist() == [first.get(user) in filled for user in users]
    assert 0 < data.bought.sum() < len(users)


def test_the_command_prints_a_table_and_writes_its_figures(month: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = ["--day", str(ASKED), "--draws", "20", "--home", str(tmp_path / "home"), "--json", str(out)]
    shown = CliRunner().invoke(main, [str(month), *options])
    assert shown.exit_code == 0, shown.output
    assert "RFM quintiles" in shown.output
    figures = json.loads(out.read_text())["outcomes"]["purchase"]["figures"]
    auc = figures["gradient boosting"]["auc"]
    assert 0 <= auc["low"] <= auc["value"] <= auc["high"] <= 1
    over = figures["gradient boosting"]["over"]["RFM quintiles"]
    assert over["value"] == pytest.approx(auc["value"] - figures["RFM quintiles"]["auc"]["value"])
    again = CliRunner().invoke(main, [str(month), *options])  # from what was folded before
    assert again.exit_code == 0
    assert json.loads(out.read_text())["outcomes"]["purchase"]["figures"] == figures
