"""Verdicts on planted shops: four kinds of shopper, of whom the last buys and the later ones fill carts."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from online_models.evaluation.promotion import Contender, Verdict, judge
from online_models.evaluation.scoring import known_before, log_loss, rates
from online_models.outcomes import HORIZON, Outcomes
from online_models.training_rows import SAMPLE_ROW, USER, TrainingRows

DAY = 86_400_000


class Shop:
    def __init__(self, seed: int = 1, users: int = 600, days: int = 24) -> None:
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 4, users)
        self.user = np.tile(np.arange(users), days)
        now = np.repeat(np.arange(days) * DAY, users) + self.user
        self.kind = kind[self.user]
        n = len(now)
        zero = np.zeros(n, np.int64)
        names = np.array([b"%16d" % one for one in self.user.tolist()], "S16").astype(USER)
        self.rows = TrainingRows(
            np.arange(n), now, np.full(n, SAMPLE_ROW, np.int8), names, zero, zero, zero, zero, np.zeros((n, 0))
        )
        bought, carted = rng.random(n) < np.where(self.kind == 3, 0.3, 0.01), rng.random(n) < 0.1 * self.kind
        ripe = now + HORIZON < now.max(initial=0)
        self.came = Outcomes(np.arange(n), bought, carted, np.ones(n, bool), ripe)
        self.lines = np.eye(4)[self.kind] + rng.normal(0, 0.05, (n, 4))

    def model(self, name: str, segment: np.ndarray, space: str = "windows", apart: float = 1.0) -> Contender:
        count = int(segment.max()) + 1
        lines = np.eye(count)[segment] * apart + np.random.default_rng(2).normal(0, 0.05, (len(segment), count))
        return Contender(name, space, [10 + i for i in range(count)], np.eye(count) * apart, lines, segment)

    def knowing(self, name: str, space: str = "windows", **more: float) -> Contender:
        return self.model(name, self.kind, space, **more)

    def blind(self, name: str, space: str = "windows") -> Contender:
        """Segments that say nothing about buying."""
        return self.model(name, self.user % 4, space)

    def judge(self, champion: Contender, candidate: Contender, **more: object) -> Verdict:
        return judge(champion, candidate, self.rows, self.came, draws=200, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


def test_a_better_candidate_whose_people_would_change_is_refused_until_that_is_accepted(shop: Shop) -> None:
    blind, knowing = shop.blind("version 3"), shop.knowing("a candidate")
    found = shop.judge(blind, knowing)
    assert not found.promoted
    assert "refused" in found.why
    assert found.churn > 0.5
    assert found.prediction is not None
    assert found.prediction.gain.low > 0
    accepted = shop.judge(blind, knowing, accept_churn=True)
    assert accepted.promoted
    assert "accepted" in accepted.why
    assert shop.judge(blind, knowing, budget=1.0).promoted


def test_a_better_candidate_that_keeps_its_people_is_promoted(shop: Shop) -> None:
    """It splits a segment of 30 people: those who buy a lot."""
    some = np.where((shop.user < 30) & (shop.kind == 3), 4, shop.kind)
    came = replace(shop.came, bought=shop.came.bought | (some == 4))
    verdict = judge(shop.knowing("old"), shop.model("new", some), shop.rows, came, draws=200)
    assert verdict.promoted, verdict.why
    assert 0 < verdict.churn < 0.05
    assert verdict.continues == [10, 11, 12, 13, -1]
    assert np.sum(verdict.matrix) == 600
    assert (verdict.old, verdict.new) == ([10, 11, 12, 13], [10, 11, 12, 13, 14])


def test_a_tie_is_not_promoted_and_a_worse_one_neither(shop: Shop) -> None:
    knowing = shop.knowing("version 3")
    same = shop.judge(knowing, shop.knowing("the same again"))
    assert not same.promoted
    assert "not better" in same.why
    assert same.prediction is not None
    assert same.prediction.gain.value == 0
    assert not shop.judge(knowing, shop.blind("worse"), budget=1.0).promoted


def test_an_embedding_has_to_beat_the_windows_and_the_verdict_says_so(shop: Shop) -> None:
    windows, blind = shop.knowing("windows"), shop.blind("encoder", "embedding")
    refused = shop.judge(windows, shop.knowing("encoder", "embedding"))
    assert not refused.promoted
    assert "does not beat the hand-made windows" in refused.why
    better = shop.judge(shop.blind("windows"), shop.knowing("encoder", "embedding"), budget=1.0)
    assert better.promoted
    # also where the champion is a bad embedding that it beats
    knowing = shop.knowing("newer encoder", "embedding")
    assert "no segments on the windows" in shop.judge(blind, knowing, budget=1.0).why
    tied = shop.judge(blind, knowing, budget=1.0, baseline=windows)
    assert not tied.promoted
    assert "does not beat the hand-made windows" in tied.why
    assert shop.judge(blind, knowing, budget=1.0, baseline=shop.blind("windows")).promoted


def test_a_tie_goes_to_the_windows(shop: Shop) -> None:
    embedding, windows = shop.knowing("encoder", "embedding"), shop.knowing("windows")
    found = shop.judge(embedding, windows)
    assert found.promoted
    assert "a tie goes to the windows" in found.why
    kept = shop.judge(embedding, shop.blind("windows"), budget=1.0)
    assert not kept.promoted
    assert "the embedding is better than the windows" in kept.why


def test_a_candidate_whose_segments_lie_less_apart_is_refused(shop: Shop) -> None:
    found = shop.judge(shop.blind("old"), shop.knowing("new", apart=0.1), budget=1.0)
    assert not found.promoted
    assert "less apart" in found.why


def test_too_little_to_judge_by_is_said_with_what_there_is() -> None:
    young = Shop(users=40)
    found = young.judge(young.blind("old"), young.knowing("new"), budget=1.0)
    assert not found.promoted
    assert found.prediction is None
    assert found.why.startswith("too little to judge by: ")
    assert not Shop(days=5).judge(Shop(days=5).blind("old"), Shop(days=5).knowing("new"), budget=1.0).promoted
    none = Shop(users=0)
    empty = Contender("empty", "windows", [10], np.zeros((1, 4)), none.lines, none.kind)
    assert not none.judge(empty, empty).promoted


def test_nobody_is_judged_by_other_rows(shop: Shop) -> None:
    with pytest.raises(ValueError, match="about 40 rows"):
        shop.judge(shop.knowing("old"), Shop(users=2, days=20).knowing("new"))


def test_a_verdict_is_the_same_again_and_can_be_kept(shop: Shop) -> None:
    first, again = (shop.judge(shop.blind("a"), shop.knowing("b")) for _ in range(2))
    assert msgspec.json.encode(first) == msgspec.json.encode(again)
    assert msgspec.json.decode(msgspec.json.encode(first), type=Verdict) == first


def test_a_gain_is_what_a_plain_sum_says(shop: Shop) -> None:
    prediction = shop.judge(shop.blind("a"), shop.knowing("b")).prediction
    assert prediction is not None
    now, ripe = shop.rows.now, shop.came.ripe
    scored = (known_before(now[ripe]) >= 500).nonzero()[0]
    for name in ("bought", "carted"):
        outcome = getattr(shop.came, name)[ripe]
        shops, old, new = (
            log_loss(rates(now[ripe], segment[ripe], outcome), outcome)[scored].mean()
            for segment in (np.zeros_like(shop.user), shop.user % 4, shop.kind)
        )
        assert prediction.losses[name] == pytest.approx([shops, old, new])
        assert prediction.gains[name].value == pytest.approx((old - new) / shops)
