"""KMeans as an estimator of River's: its checks, its own results in the fixed-step mode, and what it adds."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import checks, cluster
from river.checks import common

from online_models.clustering.kmeans import KMeans
from online_models.distances import nearest

# River feeds no data set to a clusterer: its checks that need one are called here by name
ON_DATA = (
    "learn_one",
    "pickling",
    "shuffle_features_no_impact",
    "emerging_features",
    "disappearing_features",
    "radically_disappearing_features",
    "predict_one_pure",
    "no_state_aliasing_with_input",
    "clone_is_independent",
    "seeding_is_idempotent",
    "bounded_memory_growth",
)
MODELS = [KMeans(**params) for params in KMeans._unit_test_params()]
STEPS = ("count", "fixed")


def blobs(seed: int, n: int, places: list[list[float]], spread: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array(places)[rng.integers(0, len(places), n)] + rng.normal(0, spread, (n, len(places[0])))


def dicts(seed: int, n: int, width: int, *, late: bool = False, text: bool = True) -> Iterator[dict[Any, float]]:
    """Rows of named features; late: the last of them comes after the first half of the rows."""
    rows = np.random.default_rng(seed).normal(size=(n, width)).tolist()
    names = [f"f{i}" if text else i for i in range(width)]
    for i, row in enumerate(rows):
        x = dict(zip(names, row, strict=True))
        if late and width > 1 and i < n // 2:
            del x[names[-1]]
        yield x


def matrix(model: KMeans) -> list[list[float]]:
    return [[float(x) for _, x in sorted(model.centers[k].items(), key=str)] for k in sorted(model.centers)]


@pytest.mark.parametrize(
    ("model", "check"),
    [
        pytest.param(model, check, id=f"{model.step}:{check.__name__}")
        for model in MODELS
        for check in checks.yield_checks(model)
    ],
)
def test_river_checks(model: KMeans, check: Any) -> None:
    assert check.__name__ not in model._unit_test_skips()  # none is left out
    check(model.clone())


@pytest.mark.parametrize("name", ON_DATA)
@pytest.mark.parametrize("model", MODELS, ids=STEPS)
def test_river_checks_on_data(model: KMeans, name: str) -> None:
    # in the fixed-step mode the order of a set decides, as in River's own: whole numbers have one of their own
    data = [(x, None) for x in dicts(1, 400, 6, text=model.step == "count")]
    getattr(common, f"check_{name}")(model.clone(), data)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 7),
    st.sampled_from([0.02, 0.5, 1]),
    st.sampled_from([1, 2, 3]),
    st.booleans(),
)
def test_fixed_step_gives_rivers_own_results(
    seed: int, n: int, width: int, k: int, halflife: float, p: int, late: bool
) -> None:
    params: dict[str, Any] = {"n_clusters": k, "seed": seed, "halflife": halflife, "p": p, "mu": 0.1, "sigma": 2}
    ours, theirs = KMeans(**params, step="fixed"), cluster.KMeans(**params)
    for x in dicts(seed, n, width, late=late):
        assert ours.predict_one(x) == theirs.predict_one(x)
        assert ours.learn_predict_one(x) == theirs.learn_predict_one(x)
        ours.learn_one(x)
        theirs.learn_one(x)
    assert ours.centers == theirs.centers


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(STEPS), st.integers(0, 1 << 32), st.integers(1, 80), st.lists(st.integers(0, 80), max_size=5))
def test_many_equals_one_by_one_under_any_split(step: str, seed: int, n: int, cuts: list[int]) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, 4))
    named = [dict(zip("abcd", row, strict=True)) for row in rows.tolist()]
    many, one = (KMeans(n_clusters=3, seed=seed, warm_up=20, floor=0.1, dead=0.3, step=step) for _ in range(2))
    for model in (many, one):
        model.learn_one({"b": 1.0, "a": 2.0, "d": 3.0, "c": 4.0})  # columns go by name
    for a, b in pairwise(sorted({0, n, *(c for c in cuts if c < n)})):
        many.learn_many(rows[a:b])
        for x in named[a:b]:
            one.learn_one(x)
        assert many.centers == one.centers
        assert [many.predict_one(x) for x in named] == [one.predict_one(x) for x in named]


@pytest.mark.parametrize("step", STEPS)
def test_a_matrix_names_its_columns_where_nothing_did(step: str) -> None:
    rows = np.random.default_rng(8).normal(size=(40, 3))
    many, one = (KMeans(n_clusters=3, seed=2, warm_up=20, step=step) for _ in range(2))
    many.learn_many(rows)
    for row in rows.tolist():
        one.learn_one(dict(enumerate(row)))
    assert many.centers[0].keys() == one.centers[0].keys() == {0, 1, 2}
    if step == "count":  # a prediction draws coordinates in the fixed-step mode, as River's
        assert many.centers == one.centers


@pytest.mark.parametrize("step", STEPS)
def test_a_matrix_of_other_width_is_refused(step: str) -> None:
    model = KMeans(step=step, warm_up=1)
    model.learn_many(np.zeros((9, 3)))
    for wrong in (np.zeros((2, 4)), np.zeros(3)):
        with pytest.raises(ValueError, match="3 columns"):
            model.learn_many(wrong)
    with pytest.raises(ValueError, match="step"):
        KMeans(step="constant")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("trained", [10, 60])
def test_copies_go_on_as_the_model_would(step: str, trained: int) -> None:
    rows = list(dicts(2, 120, 5, late=True))
    model = KMeans(n_clusters=4, seed=3, warm_up=20, step=step)
    for x in rows[:trained]:
        model.learn_one(x)
    copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), model.clone(include_attributes=True)]
    fresh = model.clone()
    for one in (model, *copies, fresh):
        for x in rows[trained:] if one is not fresh else rows:
            one.learn_one(x)
        assert matrix(one) == matrix(model)


def test_prediction_changes_nothing_in_the_counting_mode() -> None:
    asked, plain = (KMeans(n_clusters=3, warm_up=10) for _ in range(2))
    for x in dicts(5, 50, 4, late=True):
        asked.predict_one({"z": 9.0, **x})
        for model in (asked, plain):
            model.learn_one(x)
    assert asked.centers == plain.centers
    assert asked.predict_one({"z": 9.0}) == asked.predict_one({})


@pytest.mark.parametrize("warm_up", [4, 24])
def test_late_features_have_a_column_of_their_own(warm_up: int) -> None:
    model = KMeans(n_clusters=2, warm_up=warm_up, floor=0.5)
    for a in (0.0, 0.1, 9.0, 9.1):
        model.learn_one({"b": a})
    for _ in range(20):
        model.learn_one({"a": 5.0, "b": 9.0})
    near, far = sorted(model.centers.values(), key=lambda centre: centre["b"])
    assert (near["a"], round(near["b"], 3)) == (0.0, 0.05)
    assert far["a"] > 4.5


def test_a_row_moves_its_nearest_centre_and_no_other() -> None:
    model = KMeans(n_clusters=4, seed=1, warm_up=20, floor=0.1, dead=0.0)
    for i, x in enumerate(dicts(6, 200, 3)):
        before = np.array(matrix(model))
        label = model.learn_predict_one(x)
        if i >= 20:
            moved = np.array(matrix(model)) - before
            assert np.flatnonzero(moved.any(1)).tolist() == [label]
            share = moved[label] / (np.array(list(x.values())) - before[label])
            assert share == pytest.approx([share[0]] * 3)
            assert 0.1 <= share[0] + 1e-9 <= 1.0


def test_without_a_floor_a_lone_centre_is_the_mean_of_its_rows() -> None:
    rows = blobs(7, 500, [[3.0, -2.0]])
    model = KMeans(n_clusters=1, warm_up=10, floor=0.0)
    model.learn_many(rows)
    assert matrix(model)[0] == pytest.approx(rows.mean(0).tolist())


def test_a_counting_centre_converges_where_rivers_does_not() -> None:
    rows = np.random.default_rng(1).normal(size=20_000)
    spreads = {}
    for step in STEPS:
        model = KMeans(n_clusters=1, seed=1, step=step)
        path = []
        for a in rows.tolist():
            model.learn_one({"a": a})
            path.append(model.centers[0]["a"] if model.centers else np.nan)
        spreads[step] = float(np.std(path[10_000:]))
    assert spreads["count"] < 0.06
    assert 0.5 < spreads["fixed"] < 0.65  # sqrt(h / (2 - h)), h = 0.5


def test_dead_centres_are_repaired() -> None:
    # the third kind of shopper is gone after the start: without repair nobody belongs to its centre any more
    idle = {}
    for dead in (0.0, 0.02):
        model = KMeans(n_clusters=3, seed=1, dead=dead)
        model.learn_many(blobs(1, 300, [[0, 0], [9, 0], [0, 9]]))
        model.learn_many(blobs(2, 8_000, [[0, 0], [9, 0]]))
        label = nearest(blobs(3, 1_000, [[0, 0], [9, 0]]), model.centre_matrix)[0]
        idle[dead] = float(np.bincount(label, minlength=3).min() / 1_000)
    assert idle[0.0] == 0.0
    assert idle[0.02] > 0.05


def test_the_start_finds_each_of_four_kinds_from_any_seed() -> None:
    places: list[list[float]] = [[0, 0], [9, 0], [0, 9], [9, 9]]
    for seed in range(10):
        model = KMeans(n_clusters=4, seed=seed, warm_up=60)
        model.learn_many(blobs(seed, 60, places))
        assert sorted(nearest(np.array(places, float), model.centre_matrix)[0].tolist()) == [0, 1, 2, 3]


@pytest.mark.slow
def test_results_do_not_depend_on_the_hash_seed() -> None:
    code = """if True:
        import sys
        from tests.unit.online_models.clustering.test_kmeans import KMeans, dicts, matrix
        model, fixed = KMeans(n_clusters=4, warm_up=20), KMeans(n_clusters=4, seed=1, step="fixed")
        for x in dicts(4, 80, 7, late=True):
            model.learn_one({27: 0.5, "27": -0.5, **x})
        for x in dicts(4, 80, 7, late=True, text=False):
            fixed.learn_one(x)
        print(list(model.centers[0]), matrix(model), matrix(fixed))
    """
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(told) == 1
    assert told.pop().startswith(b"[27, '27', 'f0'")
