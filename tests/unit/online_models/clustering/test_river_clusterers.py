"""River's stream clusterers behind shoal's protocol: estimators, centres, ids, the same under any hash seed."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import checks, cluster
from river.checks import common
from river.cluster.denstream import DenStreamMicroCluster

from online_models.clustering import river_clusterers
from online_models.clustering.river_clusterers import DBSTREAM, NAMES, CluStream, DenStream, find_centres, make
from online_models.distances import nearest
from tests.unit.online_models.clustering.test_kmeans import ON_DATA, blobs, dicts

MODELS = [kind(**params) for kind in (DBSTREAM, CluStream, DenStream) for params in kind._unit_test_params()]
IDS = [type(model).__name__ for model in MODELS]
PLACES = [[0.0, 0.0, 3.0], [9.0, 0.0, 3.0], [0.0, 9.0, 3.0]]
# River's own do not take features that come and go (KeyError), nor say that they do not
FIXED = {"emerging_features", "disappearing_features", "radically_disappearing_features"}


@pytest.mark.parametrize(
    ("model", "check"),
    [
        pytest.param(model, check, id=f"{type(model).__name__}:{check.__name__}")
        for model in MODELS
        for check in checks.yield_checks(model)
    ],
)
def test_river_checks(model: Any, check: Any) -> None:
    check(model.clone())


@pytest.mark.parametrize("name", [name for name in ON_DATA if name not in FIXED])
@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_river_checks_on_data(model: Any, name: str) -> None:
    data = [(x, None) for x in dicts(1, 200, 4, text=False)]
    getattr(common, f"check_{name}")(model.clone(), data)


@pytest.mark.parametrize("name", NAMES)
def test_three_kinds_of_shopper_have_a_centre_each(name: river_clusterers.Name) -> None:
    lines = blobs(3, 600, PLACES)
    centres = find_centres(name, lines, 2, 8, 3, 7)
    assert len(centres) == 3
    label, _, distance, _ = nearest(np.array(PLACES), centres)
    assert sorted(label.tolist()) == [0, 1, 2]
    assert distance.max() < 2.0  # the kinds lie 81 apart
    people = np.bincount(nearest(lines, centres)[0])
    assert sorted(people.tolist(), reverse=True) == people.tolist()


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 1 << 20), st.lists(st.integers(1, 149), max_size=4))
def test_any_split_of_the_lines_gives_the_same_centres(name: river_clusterers.Name, seed: int, cuts: list[int]) -> None:
    lines = blobs(seed, 150, PLACES)
    whole, parts = (make(name, 3, lines, 1) for _ in range(2))
    whole.learn_many(lines)
    for a, b in pairwise(sorted({0, 150, *cuts})):
        parts.learn_many(lines[a:b])
    assert parts.centre_matrix.tobytes() == whole.centre_matrix.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_centres_are_found_in_whatever_unit_features_are(name: river_clusterers.Name) -> None:
    lines = blobs(3, 300, PLACES)
    assert find_centres(name, lines * 64, 2, 8, 3, 7) == pytest.approx(find_centres(name, lines, 2, 8, 3, 7) * 64)


@pytest.mark.parametrize("name", NAMES)
def test_bounds_and_lines_that_say_too_little(name: river_clusterers.Name) -> None:
    lines = blobs(3, 300, PLACES)
    largest = find_centres(name, lines, 1, 2, 3, 7)
    assert largest.tolist() == find_centres(name, lines, 1, 8, 3, 7)[:2].tolist()
    assert find_centres(name, lines, 50, 60, 3, 7).shape == (0, 3)
    assert find_centres(name, lines[:1], 1, 8, 3, 7).shape == (0, 3)
    assert len(find_centres(name, np.ones((80, 2)), 1, 8, 3, 7)) <= 1
    with pytest.raises(ValueError, match="centres"):
        _ = make(name, 3, lines, 1).centre_matrix
    with pytest.raises(ValueError, match=r"matrix|columns"):
        make(name, 3, lines, 1).learn_many(np.zeros(3))


def test_asking_for_clusters_changes_nothing() -> None:
    # River's DenStream merges the micro-clusters of a cluster into the first one of them, again at each question
    for kind, left in ((DenStream, 0.0), (cluster.DenStream, 2.0)):
        micro = [DenStreamMicroCluster({0: at}, 0, 0.01) for at in (0.0, 2.0)]
        (one,) = kind._generate_clusters_for_labels(dict.fromkeys(micro, 0))[1].values()
        assert (one.N, one.center) == (2, {0: 1.0})
        assert micro[0].linear_sum == {0: left}


def test_a_new_micro_cluster_takes_no_other_ones_place() -> None:
    model = DenStream(0.01, beta=0.5, mu=2.5, epsilon=0.5, n_samples_init=2)
    ours = copy.deepcopy(model)
    ours.learn_many(np.array([[50.0], [90.0], [0.0], [10.0], [20.0]]))
    del ours.o_micro_clusters[0]  # as when it has faded, or grown into a core
    ours.learn_many(np.array([[30.0]]))
    assert [one.center[0] for one in ours.o_micro_clusters.values()] == [10.0, 20.0, 30.0]


def test_results_do_not_depend_on_the_hash_seed() -> None:
    code = """if True:
        import hashlib
        import numpy as np
        from online_models.clustering.river_clusterers import NAMES, find_centres
        lines = np.random.default_rng(4).normal(size=(250, 3)) + 4 * np.eye(3)[np.arange(250) % 3]
        for name in NAMES:
            print(name, hashlib.sha256(find_centres(name, lines, 1, 12, 4, 7).tobytes()).hexdigest())
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
    assert len(set(told.pop().split())) == 2 * len(NAMES)
