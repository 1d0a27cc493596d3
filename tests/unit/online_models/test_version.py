"""k-means, scaler, versions and learner."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import cluster

from online_models.assignment import assign
from online_models.clustering.kmeans import KMeans
from online_models.distances import nearest
from online_models.learner.learner import Learner, LearnerParams
from online_models.version import dumps, loads
from tests.build import training_rows

R, L = 3, 2
PARAMS = LearnerParams(3, 3, 30, 40, 10_000, 80, 1, R, [f"f{i}" for i in range(R + L)])


def raw(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.c_[rng.poisson(2, (n, R)), rng.poisson(5, (n, R)) + 1, rng.normal(0, 1, (n, L))].astype(float)


@given(st.integers(0, 1 << 20), st.integers(1, 40), st.integers(1, 6), st.integers(1, 7))
def test_nearest_equals_a_plain_search_and_does_not_see_the_batch(seed: int, n: int, k: int, f: int) -> None:
    rng = np.random.default_rng(seed)
    lines, centres = rng.normal(size=(n, f)), rng.normal(size=(k, f))
    first, second, d1, d2 = nearest(lines, centres)
    for i in range(n):
        one = nearest(lines[i : i + 1], centres)
        assert (first[i], second[i], d1[i], d2[i]) == (one[0][0], one[1][0], one[2][0], one[3][0])
        order = np.argsort(((lines[i] - centres) ** 2).sum(1), kind="stable")
        assert first[i] == order[0]
        if k > 1:
            assert second[i] == order[1]


def test_fixed_step_gives_rivers_own_results() -> None:
    rng = np.random.default_rng(2)
    rows = [{"a": float(x), "b": float(y)} for x, y in rng.normal(size=(60, 2))]
    ours, theirs = KMeans(n_clusters=3, seed=4, step="fixed"), cluster.KMeans(n_clusters=3, seed=4)
    for row in rows:
        ours.learn_one(row)
        theirs.learn_one(row)
    assert [ours.predict_one(r) for r in rows] == [theirs.predict_one(r) for r in rows]
    assert ours.centers == theirs.centers


def test_many_equals_one_by_one() -> None:
    rows = np.random.default_rng(3).normal(size=(200, 2))
    many, one = (KMeans(n_clusters=4, seed=1, warm_up=20) for _ in range(2))
    many.learn_many(rows)
    for a, b in rows:
        one.learn_one({"a": a, "b": b})
    assert (many.centre_matrix == one.centre_matrix).all()
    label = [one.predict_one({"a": a, "b": b}) for a, b in rows]
    assert nearest(rows, many.centre_matrix)[0].tolist() == label


def test_planted_clusters_are_found() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 4, 600)
    rows = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])[truth] + rng.normal(0, 0.5, (600, 2))
    model = KMeans(n_clusters=4, seed=1, warm_up=50)
    model.learn_many(rows)
    label = nearest(rows, model.centre_matrix)[0]
    assert len({(t, p) for t, p in zip(truth.tolist(), label.tolist(), strict=True)}) == 4


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 199), max_size=5))
def test_any_split_of_the_log_gives_the_same_versions(seed: int, cuts: list[int]) -> None:
    rows = training_rows(raw(seed, 200), np.arange(200) * 100)
    whole = [dumps(v) for v in Learner.start(PARAMS).learn(rows)]
    bounds = sorted({0, 200, *cuts})
    learner, parts = Learner.start(PARAMS), []
    for a, b in itertools.pairwise(bounds):
        parts += [dumps(v) for v in learner.learn(rows.take(slice(a, b)))]
    assert parts == whole
    newest = loads(whole[1])
    again = Learner.resume(newest, PARAMS)
    at = newest.learned_to
    assert [dumps(v) for v in again.learn(rows.take(slice(at, None)))] == whole[2:]


def test_a_line_does_not_see_its_batch() -> None:
    (version, *_) = Learner.start(PARAMS).learn(training_rows(raw(1, 30)))
    lines = raw(2, 50)
    whole = assign(version, lines)
    for i in range(50):
        one = assign(version, lines[i : i + 1])
        assert one.features.tobytes() == whole.features[i : i + 1].tobytes()
        assert one.margin[0] == whole.margin[i]


def test_a_damaged_version_is_refused() -> None:
    (version, *_) = Learner.start(PARAMS).learn(training_rows(raw(1, 30)))
    data = bytearray(dumps(version))
    at = bytes(data).index(version.centre_bytes) + 3
    data[at] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        loads(bytes(data))
    with pytest.raises(ValueError, match="format"):
        loads(msgspec.msgpack.encode(msgspec.structs.replace(version, format=9)))
    with pytest.raises(ValueError, match="no model version"):
        loads(b"x")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.sampled_from([0.0, 0.1, 0.5]))
def test_a_held_user_stays_while_no_other_centre_is_much_nearer(seed: int, n: int, hysteresis: float) -> None:
    rng = np.random.default_rng(seed)
    (version, *_) = Learner.start(PARAMS).learn(training_rows(raw(1, 30)))
    version = msgspec.structs.replace(version, ids=[7, 2, 40], hysteresis=hysteresis)
    lines, row = raw(seed, n), np.sort(rng.integers(0, 9, n))
    held = rng.choice([-1, 2, 7, 40, 5], 9)
    found = assign(version, lines, row, held)
    stands = dict(enumerate(held.tolist()))
    for i, user in enumerate(row.tolist()):
        distance = dict(zip(version.ids, ((found.features[i] - version.centres) ** 2).sum(1).tolist(), strict=True))
        best = min(distance.values())
        mine = distance.get(stands[user], np.inf)
        stays = hysteresis and mine * (1 - hysteresis) ** 2 <= best
        expected = stands[user] if stays else min(distance, key=distance.get)
        assert found.segment[i] == expected
        others = {ident: at for ident, at in distance.items() if ident != expected}
        assert found.runner_up[i] == min(others, key=others.get)
        stands[user] = expected
