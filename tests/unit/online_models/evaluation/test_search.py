"""The search over the learner's settings, and `shoal tune`, on a planted shop."""

from __future__ import annotations

import json
import tomllib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from online_models.assignment import assign
from online_models.evaluation import search
from online_models.evaluation.bootstrap import Interval
from online_models.evaluation.scoring import silhouette
from online_models.evaluation.search import Judge, Replayed, Score, Trial, best, candidates, changes, replay
from online_models.learner.learner import Learner, LearnerParams
from online_models.learner.panel import ACTIVE
from online_models.outcomes import outcomes
from online_models.training_rows import DAY_MS, OUTCOME_ROW, SAMPLE_ROW, TrainingRows
from state import features
from streams.cli import cli
from streams.config.settings import LearnerSettings, Settings
from streams.errors import DataError
from streams.kafka import training_log
from streams.kafka.training_log import WIDTH, Chunk
from streams.operations import tune as tune_
from streams.services.learner import params
from tests.build import training_rows

LEARNER = {"k_least": 2, "k_most": 2, "first_rows": 600, "every_rows": 3_000, "window": 1_200, "hysteresis": 0.1}
SETTINGS = Settings(learner=LearnerSettings(**LEARNER))
PLAIN = 2 * features.R  # the first plain column of the raw matrix


def shop(users: int = 300, days: int = 24) -> TrainingRows:
    """A row a day of each shopper. Half are of either of two kinds that differ in three features and buy alike; a
    quarter of each buys every other day, which another feature shows."""
    rng = np.random.default_rng(1)
    user = np.tile(np.arange(users), days)
    raw = np.ones((len(user), WIDTH))
    noise = rng.normal(0, 0.1, (len(user), 4))
    raw[:, PLAIN : PLAIN + 3] = 3.0 * (user % 2)[:, None] + noise[:, :3]
    raw[:, PLAIN + 3] = np.where(user % 8 < 2, 3.0, 0.0) + noise[:, 3]
    names = rng.integers(0, 256, (users, 16), dtype=np.uint8).view("V16")[:, 0]
    rows = training_rows(raw, np.repeat(np.arange(days) * DAY_MS, users) + user)
    buys = (user % 8 < 2) & (rng.random(len(user)) < 0.5)
    orders = np.cumsum(buys.reshape(days, users), axis=0).reshape(-1)
    return replace(rows, user=names[user], orders=orders, sessions=np.repeat(np.arange(days), users) + 1)


ROWS = shop()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "SPACE", {"k_most": (2, 4), "hysteresis": (0.1, 0.2)})


def test_candidates_begin_with_what_is_in_force_and_come_once_the_same_ones_of_a_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    base = params(Settings())
    drawn = list(candidates(base, 30, 3))
    assert drawn == list(candidates(base, 30, 3)) != list(candidates(base, 30, 4))
    assert (drawn[0], len(drawn)) == (base, 30)
    assert all(one not in drawn[:i] for i, one in enumerate(drawn))
    different = [len(changes(base, one)) for one in drawn[1:]]
    assert 1 in different
    assert max(different) > 1
    assert set(search.SPACE) <= set(LearnerSettings.model_fields)  # what is advised can be set
    few = msgspec.structs.replace(base, first_rows=10, window=10)
    assert max(one.k_least for one in candidates(few, 30, 3)) <= 10


def test_candidates_end_where_the_space_does() -> None:
    assert len(list(candidates(params(SETTINGS), 50, 0))) == 4


def test_a_row_is_judged_by_the_version_in_force_and_its_user_held() -> None:
    rows = ROWS.take(slice(0, 1_500))
    rows = replace(rows, kind=np.where(np.arange(1_500) % 7 == 3, OUTCOME_ROW, SAMPLE_ROW).astype(np.int8))
    rng = np.random.default_rng(2)
    rows = replace(rows, raw=rows.raw + rng.normal(0, 1.0, rows.raw.shape) * (np.arange(WIDTH) >= PLAIN))
    chosen = LearnerParams(3, 3, 200, 250, 1 << 60, 400, 1, features.R, list(features.NAMES), 0.2)
    found = replay(chosen, rows)
    assert found is not None
    mine = rows.take(rows.kind == SAMPLE_ROW)
    versions = Learner.start(chosen).learn(mine)
    assert found.versions == len(versions) >= 4
    held: dict[bytes, int] = {}
    newest: dict[bytes, int] = {}
    moved, version = 0.0, None
    for i in range(len(mine)):
        for one in versions:
            if one.learned_to - 1 == mine.offset[i - 1] and i:
                active = [u for u, at in newest.items() if mine.now[at] >= one.event_time - ACTIVE]
                after = {u: judged(one, mine, newest[u], held.get(u, -1))[0] for u in active}
                if version is not None:
                    moved += sum(after[u] != held.get(u, -1) for u in active) / len(active)
                held |= after
                version = one
        user = mine.user[i].tobytes()
        newest[user] = i
        if version is None:
            assert found.segment[i] == -1
            assert np.isnan(found.silhouette[i])
        else:
            held[user], apart = judged(version, mine, i, held.get(user, -1))
            assert (found.segment[i], found.silhouette[i]) == (held[user], apart)
    days = max(1.0, (versions[-1].event_time - versions[0].event_time) / DAY_MS)
    assert found.churn_day == pytest.approx(moved / days)
    assert moved > 0


def judged(version, rows: TrainingRows, at: int, held: int) -> tuple[int, float]:
    raw = rows.raw[at : at + 1]
    one = assign(version, raw, np.array([0]), np.array([held]))
    where = np.array([version.ids.index(int(one.segment[0]))])
    return int(one.segment[0]), float(silhouette(one.features, version.centres, where)[0])


def test_who_gives_up_gets_nothing() -> None:
    seen: list[tuple[int, int]] = []
    assert replay(params(SETTINGS), ROWS, lambda done, of: bool(seen.append((done, of))) or len(seen) < 2) is None
    assert seen == [(2_000, 7_200), (4_000, 7_200)]


@pytest.mark.slow
def test_the_search_finds_that_two_segments_are_too_few() -> None:
    found = tune_.tune(SETTINGS, ROWS, trials=9, seconds=600)
    assert found.trials[0].changes == {}
    assert (len(found.trials), found.ended) == (4, "trials")
    base = found.trials[0]
    assert base.earlier.gain == base.later.gain == Interval(0.0, 0.0, 0.0)
    assert found.best.changes["k_most"] == 4
    assert found.best.better
    assert found.best.earlier.of_shop > base.earlier.of_shop + 0.1
    assert "better than the settings" in found.advice
    again = tune_.tune(SETTINGS, ROWS, trials=9, seconds=600)
    assert again.trials == found.trials


def test_the_time_bounds_the_search_but_what_is_in_force_is_always_played() -> None:
    found = tune_.tune(SETTINGS, ROWS, trials=9, seconds=0)
    assert ([one.changes for one in found.trials], found.ended) == ([{}], "time")
    assert "keep them" in found.advice
    assert found.to_dict()["toml"] == ""


def test_too_little_to_judge_by() -> None:
    with pytest.raises(DataError, match="too little to judge by: 0 rows"):
        tune_.tune(SETTINGS, ROWS.take(slice(0, 2_000)), trials=3, seconds=60)
    rows = replace(ROWS, orders=np.zeros(len(ROWS), np.int64))
    played = replay(params(SETTINGS), rows)
    assert played is not None
    judge = Judge(rows, outcomes(rows), played)
    assert (judge.voting, judge.events) == ([], {"bought": [0, 0], "carted": [0, 0]})
    with pytest.raises(ValueError, match="0 purchases"):
        judge.trial({}, played)


def test_the_later_rows_have_no_say_in_the_choice() -> None:
    played = replay(params(SETTINGS), ROWS)
    assert played is not None
    judge = Judge(ROWS, outcomes(ROWS), played)
    earlier, later = judge.spans
    assert ROWS.now[earlier].max() <= ROWS.now[later].min()
    knowing = replace(played, segment=np.where(np.arange(len(ROWS)) % 300 % 8 < 2, 1, 0))
    before = judge.trial({"k": 3}, knowing)
    shuffled = knowing.segment.copy()
    shuffled[later] = np.random.default_rng(1).permutation(shuffled[later])
    after = judge.trial({"k": 3}, Replayed(shuffled, played.silhouette, 0.0, 1, 2))
    assert before.earlier == after.earlier
    assert before.later.gain.low > 0 > after.later.gain.high
    assert (before.better, after.better) == (True, False)


def test_the_best_moves_few_people_and_its_segments_lie_apart() -> None:
    def trial(gain: float, churn: float, separation: float) -> Trial:
        score = Score({}, Interval(gain, gain, gain), 0.1, separation)
        return Trial({"k": gain}, 3, 3, churn, score, score)

    base, wild, close, good, less = (
        trial(0.0, 0.02, 0.4),
        trial(0.9, 0.03, 0.4),
        trial(0.8, 0.0, 0.3),
        trial(0.5, 0.019, 0.39),
        trial(0.4, 0, 0.9),
    )
    assert best([base, wild, close, good, less]) is good
    assert best([base, wild, close]) is base


def shoal(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="shoal")


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    lines = "\n".join(f"{name} = {value}" for name, value in LEARNER.items())
    (tmp_path / "shoal.toml").write_text("[learner]\n" + lines + "\n")
    return tmp_path


def test_shoal_tune_shows_a_table_and_lines_to_paste(deployment: Path) -> None:
    tune_.save(deployment / "rows.npz", ROWS)
    found = shoal("tune", "--rows", "rows.npz", "--trials", "9", "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert (told["clearly_better"], told["rows"], len(told["trials"])) == (True, 7_200, 4)
    advised = tomllib.loads(told["toml"])["learner"]
    assert advised == told["best"]["changes"]
    Settings(learner=LearnerSettings(**advised))
    shown = shoal("tune", "--rows", "rows.npz", "--trials", "2", "--seconds", "0")
    assert shown.exit_code == 0, shown.output
    assert "in force" in shown.stdout
    assert "the time limit was reached after 1 settings" in shown.stderr
    assert "keep them" in shown.stdout


def test_rows_come_from_the_topic_and_are_saved_as_they_are(deployment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Given(Chunk):
        part: TrainingRows

        def rows(self) -> TrainingRows:
            return self.part

    async def read(settings: Settings) -> AsyncIterator[Chunk]:
        for a in range(0, len(ROWS), 2_000):
            one = Given(0, len(ROWS))
            one.part = ROWS.take(slice(a, a + 2_000))
            yield one

    monkeypatch.setattr(training_log, "read", read)
    found = shoal("tune", "--save", "rows.npz", "--seconds", "0", "--json")
    assert found.exit_code == 0, found.output
    kept = tune_.load(deployment / "rows.npz")
    for name in TrainingRows.__slots__:
        assert getattr(kept, name).tobytes() == getattr(ROWS, name).tobytes()


def test_a_file_that_holds_no_rows_is_refused(deployment: Path) -> None:
    (deployment / "text").write_text("user,raw\n")
    np.savez(deployment / "other.npz", layout=np.uint32(1))
    np.savez(deployment / "pickled.npz", layout=np.array([{}], object))
    tune_.save(deployment / "none.npz", ROWS.take(slice(0, 0)))
    for name in ("text", "other.npz", "pickled.npz", "none.npz", "missing.npz"):
        found = shoal("tune", "--rows", name)
        assert (found.exit_code, found.stdout) == (10, ""), found.output
        assert f"shoal: error: {name}: " in found.stderr
