"""Scores to probabilities, and the bounded sample of what waits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from online_models.prediction import score_bins
from online_models.prediction.score_bins import ScoreBins
from online_models.prediction.user_pool import UserPool


@given(st.integers(0, 1 << 32), st.integers(0, 300), st.integers(1, 12))
def test_a_calibration_rises_and_does_not_see_its_batch(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    tally = ScoreBins.empty(-2.0, 3.0, bins)
    for score, hit in zip(rng.normal(size=n).tolist(), (rng.random(n) < 0.3).tolist(), strict=True):
        tally.add(score, 0.3, hit)
    found = tally.calibration(np.linspace(0.05, 0.9, bins))
    scores = np.sort(rng.normal(0, 3, 40))
    whole = found.apply(scores)
    inside = (scores > -2 + 2.5 / bins) & (scores < 3 - 2.5 / bins)
    assert (np.diff(whole) >= 0).all()
    assert (np.diff(whole[inside]) > 0).all()  # the order of scores is kept
    assert 0 <= whole[0] <= whole[-1] <= 1
    assert [found.apply(scores[i : i + 1])[0] for i in range(40)] == whole.tolist()


def test_what_was_overrated_is_told_as_it_came() -> None:
    rng = np.random.default_rng(1)
    tally = ScoreBins.empty(0.0, 1.0, 20)
    for score in rng.random(3_000).tolist():
        tally.add(score, score, bool(rng.random() < score / 2))
    found = tally.calibration(tally.middles)
    at = np.array([0.2, 0.5, 0.8])
    assert found.apply(at) == pytest.approx(at / 2, abs=0.08)
    assert tally.calibration_error() == pytest.approx(0.25, abs=0.03)


def test_unseen_bins_stand_for_what_they_say() -> None:
    tally = ScoreBins.empty(0.0, 1.0, 4)
    told = tally.calibration(tally.middles).apply(np.array([0.0, 0.125, 0.25, 1.0]))
    assert told == pytest.approx([0.125, 0.125, 0.25, 0.875], abs=1e-5)


def test_the_area_under_the_curve_is_sklearns_where_bins_are_fine_enough() -> None:
    rng = np.random.default_rng(2)
    score = rng.integers(0, 10, 500) / 10 + 0.05
    hit = rng.random(500) < score
    tally = ScoreBins.empty(0.0, 1.0, 10)
    for one, came in zip(score.tolist(), hit.tolist(), strict=True):
        tally.add(one, one, came)
    assert tally.auc() == pytest.approx(roc_auc_score(hit, score))
    assert ScoreBins.empty(0.0, 1.0, 3).auc() == 0.5


def test_old_predictions_fade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_bins, "FADE", 100)
    tally = ScoreBins.empty(0.0, 1.0, 2)
    for hit in [False] * 300 + [True] * 300:
        tally.add(0.9, 0.5, hit)
    assert tally.seen < 100
    assert tally.hits[1] > 0.9 * tally.count[1]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 9)), max_size=80), st.integers(1, 12))
def test_a_sample_holds_the_first_users_whole(adds: list[tuple[int, int]], most: int) -> None:
    sample: UserPool[int] = UserPool(most)
    held: dict[bytes, list[int]] = {}
    for user, entry in adds:
        key = bytes([user])
        before = {one: list(entries) for one, entries in sample.items()}
        gone = sample.add(key, entry)
        held = {one: list(entries) for one, entries in sample.items()}
        assert sample.size == sum(map(len, held.values())) <= most
        assert list(held) == sorted(held)
        after = {one: held.get(one, []) for one in before.keys() | {key}}
        assert sum(map(len, after.values())) + len(gone) == sum(map(len, before.values())) + 1
        for one in before.keys() - held.keys():
            assert one >= max(held, default=b"")  # who left comes last
        for one in before.keys() & held.keys():
            assert held[one][: len(before[one])] == before[one]
    assert all(a < b for a, b in pairwise(held))
    for one in list(held):
        assert sample.pop(one) == held[one]
    assert sample.size == 0
