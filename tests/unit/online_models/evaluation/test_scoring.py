"""Rates, intervals, areas and alignments against plain loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import special_ortho_group
from sklearn.metrics import roc_auc_score

from online_models.clustering.alignment import align, procrustes
from online_models.evaluation.bootstrap import mean_by_user, resamples
from online_models.evaluation.scoring import known_before, rates, silhouette
from tests.auc import Auc


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2), st.booleans()), min_size=1, max_size=40))
def test_rates_equal_a_plain_loop(rows: list[tuple[int, int, bool]]) -> None:
    now, segment, outcome = (np.array(column) for column in zip(*rows, strict=True))
    found = rates(now, segment, outcome, horizon=5, smoothing=3.0)
    for i, (at, mine, _) in enumerate(rows):
        before = [(s, y) for t, s, y in rows if t + 5 < at]
        base = (sum(y for _, y in before) + 0.5) / (len(before) + 1)
        own = [y for s, y in before if s == mine]
        assert found[i] == pytest.approx((sum(own) + 3.0 * base) / (len(own) + 3.0))
        assert known_before(now, 5)[i] == len(before)


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40))
def test_the_area_has_ties_right_and_counts_rows_as_often_as_told(rows: list[tuple[int, bool, int]]) -> None:
    score, outcome, times = (np.array(column) for column in zip(*rows, strict=True))
    outcome = outcome.astype(bool)
    repeated = outcome.repeat(times)
    if repeated.any() and not repeated.all():
        expected = roc_auc_score(repeated, score.repeat(times))
        assert Auc(score.astype(float), outcome).value(times) == pytest.approx(expected)
    else:
        assert np.isnan(Auc(score.astype(float), outcome).value(times))


def test_pairs_lie_within_a_stratum() -> None:
    score = np.array([0.1, 0.9, 5.0, 6.0])
    outcome, stratum = np.array([False, True, True, False]), np.array([0, 0, 1, 1])
    assert Auc(score, outcome, stratum).value() == 0.5
    assert Auc(score, outcome).value() == 0.5
    assert Auc(score, outcome & (stratum == 0), stratum).value() == 1.0


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Rows of a user are alike: intervals from resampling rows would cover the mean some 6 times in 10."""
    rng, covered = np.random.default_rng(5), 0
    for seed in range(200):
        user = np.repeat(np.arange(60), rng.integers(1, 12, 60))
        values = rng.normal(0, 1, 60)[user] + rng.normal(0, 0.3, len(user))
        (found,) = mean_by_user(user, values[:, None], 200, seed)
        covered += found.low <= 0.0 <= found.high
    assert 170 <= covered <= 198


def test_the_same_seed_draws_the_same_users() -> None:
    user, values = np.array([0, 0, 1, 2, 2, 2]), np.array([[1.0], [2.0], [0.0], [4.0], [4.0], [1.0]])
    (found,) = mean_by_user(user, values, 50, 3)
    drawn = [np.repeat(values[:, 0], times[user]).mean() for times in resamples(3, 50, 3)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    assert found.value == values.mean()
    area = Auc(values[:, 0], values[:, 0] > 1.5)
    expected = [area.value(times[user]) for times in resamples(3, 50, 3)]
    assert area.drawn(user, 50, 3) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=30))
def test_alignment_keeps_as_many_people_as_any_matching(people: list[tuple[int, int]]) -> None:
    old, new = (np.array([pair[i] for pair in people], np.int64) for i in (0, 1))
    found = align(old, new, 4, 5)
    assert found.matrix.tolist() == [[people.count((a, b)) for b in range(5)] for a in range(4)]
    kept = [sum(people.count((a, b)) for a, b in enumerate(chosen)) for chosen in itertools.permutations(range(5), 4)]
    expected = 1 - max(kept) / len(people) if people else 0.0
    assert found.churn == pytest.approx(expected)
    matched = [one for one in found.old_of.tolist() if one >= 0]
    assert len(set(matched)) == len(matched)
    assert all(people.count((a, b)) for b, a in enumerate(found.old_of.tolist()) if a >= 0)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(2, 6))
def test_procrustes_undoes_a_rotation(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    old = rng.normal(size=(50, width))
    turn = special_ortho_group.rvs(width, random_state=rng)
    rotation, left = procrustes(old, 3.0 * old @ turn + 7.0)
    assert left == pytest.approx(0.0, abs=1e-9)
    assert rotation == pytest.approx(turn.T, abs=1e-6)
    assert procrustes(old, rng.normal(size=(50, width)))[1] > 0.3
    assert procrustes(old, np.ones((50, 1)))[1] == 1.0


@given(st.integers(0, 1000), st.integers(1, 5))
def test_silhouette_equals_its_definition(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    lines, centres, segment = rng.normal(size=(20, 3)), rng.normal(size=(k, 3)), rng.integers(0, k, 20)
    found = silhouette(lines, centres, segment)
    for line, mine, one in zip(lines, segment, found, strict=True):
        distance = np.sqrt(((line - centres) ** 2).sum(1))
        other = np.delete(distance, mine).min(initial=np.inf)
        expected = 0.0 if k == 1 else (other - distance[mine]) / max(other, distance[mine])
        assert one == pytest.approx(expected)
