"""New users: trees as River's, equal bytes however the log is cut, and what becomes of segments that end."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.tree import HoeffdingAdaptiveTreeClassifier

from online_models import hoeffding, young
from online_models.hoeffding import Nodes, Tree
from online_models.lineage import Lineage
from online_models.rows import DAY, OUTCOME, ROW, USER, Rows
from online_models.version import Version, assign
from online_models.young import HOUR_MS, Params, Young, YoungModel, day_end, is_young, predict
from state import vector
from streams import training
from tests import build

PARAMS = Params(window=80, waiting=40, least=30)
START = 500_000 * HOUR_MS
CHECKED = 40  # rows between two versions


@cache
def version() -> Version:
    return build.version(1, 5)


@cache
def pools() -> list[np.ndarray]:
    """Raw lines by the segment that they fall in, those low in the first feature first."""
    raw = np.random.default_rng(0).poisson(2.0, (3_000, 2 * vector.R + len(vector.PLAIN))).astype(float)
    found = assign(version(), raw)
    order = np.argsort(found.features[:, 0], kind="stable")
    return [raw[order][found.segment[order] == segment] for segment in range(4)]


def log(seed: int, n: int, follows: float = 1.0) -> Rows:
    """n users' rows and first days' ends in log order. Where it follows, one whose row is high in the first feature
    ends in the next segment and others stay; else anywhere."""
    rng = np.random.default_rng(seed)
    born = START + np.sort(rng.integers(0, n * HOUR_MS // 2, n)) // 300_000 * 300_000
    segment = rng.integers(0, 4, n)
    at = rng.random(n)
    ends = np.where(rng.random(n) < follows, (segment + (at > 0.6)) % 4, rng.integers(0, 4, n))
    lines = [pools()[s][int(a * len(pools()[s]))] for s, a in zip(segment.tolist(), at.tolist(), strict=True)]
    days = [pools()[s][rng.integers(0, len(pools()[s]))] for s in ends.tolist()]
    now = np.r_[born + rng.integers(0, 5 * HOUR_MS, n), day_end(born)]
    ident = np.zeros((2 * n, 2), "<u8")
    ident[:, 0] = np.tile(rng.permutation(n).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15), 2)
    order = np.argsort(now, kind="stable")
    none = np.zeros(2 * n, np.int64)
    return Rows(
        offset=np.arange(2 * n), now=now[order], kind=np.repeat([ROW, DAY], n).astype(np.int8)[order],
        user=ident.view(USER)[:, 0][order], born=np.tile(born, 2)[order], carts=none, orders=none, sessions=none,
        raw=np.array(lines + days)[order],
    )  # fmt: skip


LINEAGE = {
    3: [Lineage("split", 7, parents=[(1, 1.0)])],
    5: [Lineage("merged", 2, heirs=[(3, 0.9), (0, 0.1)]), Lineage("retired", 1, heirs=[(0, 0.3), (3, 0.3)])],
}


def fold(
    rows: Rows, cuts: list[int] = [], params: Params = PARAMS, again: bool = False  # noqa: B006
) -> tuple[list[bytes], list[bytes]]:
    """Models and states each CHECKED rows. cuts: further ends of calls, with `again` also of processes."""
    one, models, states = Young.start(params), [], []
    for a, b in pairwise(sorted({0, len(rows), *range(0, len(rows), CHECKED), *(c for c in cuts if c < len(rows))})):
        one.learn(rows.take(slice(a, b)), version())
        if b % CHECKED == 0:
            models.append(msgspec.msgpack.encode(one.publish(LINEAGE.get(b // CHECKED, []))))
            states.append(one.state())
        if again:
            kept = msgspec.msgpack.decode(msgspec.msgpack.encode(one.model), type=YoungModel | None)
            one = Young.resume(one.state(), params, kept)
    return models, states


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 32), st.lists(st.integers(1, 399), max_size=4), st.booleans())
def test_any_cut_and_any_stop_give_the_same_models_and_states(seed: int, cuts: list[int], again: bool) -> None:
    rows = log(seed, 200, 0.8)
    assert fold(rows, cuts, again=again) == fold(rows)


def digest() -> str:
    models, states = fold(log(3, 200))
    return hashlib.sha256(b"".join(models + states)).hexdigest()


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = "from tests.unit.test_young import digest; print(digest())"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": str(seed)}, capture_output=True,
            check=True, text=True,
        ).stdout.strip()
        for seed in range(5)
    }  # fmt: skip
    assert told == {digest()}


def stream(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of which the rule changes halfway."""
    rng = np.random.default_rng(seed)
    x = np.rint(rng.uniform(-2, 2, (n, 3)) * 64) / 64
    y = (x[:, 0] > 0) * 2 + (x[:, 1] > 0.5)
    y[n // 2 :] = 3 - y[n // 2 :]
    return x, np.where(rng.random(n) < 0.1, rng.integers(0, 5, n), y)


def test_a_tree_is_rivers_own_and_so_are_its_nodes() -> None:
    alternates = 0
    for seed in range(3):
        x, y = stream(seed, 3_000)
        ours = Tree(delta=0.05, tau=0.2)
        rivers = HoeffdingAdaptiveTreeClassifier(
            grace_period=hoeffding.GRACE, delta=0.05, tau=0.2, max_depth=hoeffding.DEPTH, split_criterion="gini",
            leaf_prediction="mc", bootstrap_sampling=False, seed=0,
        )  # fmt: skip
        for i, (row, label) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
            ours.learn_one(dict(enumerate(row)), label)
            rivers.learn_one(dict(enumerate(row)), label)
            if i % 500 == 499 or i == 0:
                check_nodes(ours, rivers, x[-100:])
                alternates += any(node._alternate_tree is not None for node in _branches(ours._root))
        assert ours.n_nodes == rivers.n_nodes > 5
    assert alternates  # leaves of alternate subtrees were added up, too


def _branches(node: object) -> list[object]:
    if not hasattr(node, "children"):
        return []
    return [node, *(branch for child in node.children for branch in _branches(child))]


def check_nodes(ours: Tree, rivers: HoeffdingAdaptiveTreeClassifier, lines: np.ndarray) -> None:
    nodes = Nodes()
    nodes.leaf(9, 0.5)
    root = nodes.grow(ours)
    label, probability = nodes.ask(np.full(len(lines), root), lines)
    for line, one, share in zip(lines.tolist(), label.tolist(), probability.tolist(), strict=True):
        theirs = rivers.predict_proba_one(dict(enumerate(line)))
        assert theirs == ours.predict_proba_one(dict(enumerate(line)))
        assert abs(max(theirs.values()) - share) < 1e-12
        assert abs(theirs[one] - share) < 1e-12


def trained(n: int = 1_500, follows: float = 1.0) -> tuple[Young, YoungModel]:
    one, rows = Young.start(Params(window=4_000, waiting=200, least=100)), log(1, n, follows)
    for a in range(0, len(rows), 100):
        one.learn(rows.take(slice(a, a + 100)), version())
        model = one.publish([])
    assert model is not None
    return one, model


def test_it_learns_who_moves_on() -> None:
    one, model = trained()
    found = one.figures()
    assert model.trusted
    assert found["young_trees"] > found["young_stay"] + 0.1 > found["young_majority"] + 0.2
    assert found["young_right"] > found["young_stay"]
    rows = log(9, 400)
    young_ = rows.take(rows.kind == ROW)
    known = assign(version(), young_.raw)
    label, probability = predict(model, known.features, known.segment)
    days = rows.take(rows.kind == DAY)
    ended = dict(zip(days.user.tolist(), assign(version(), days.raw).segment.tolist(), strict=True))
    right = np.array([ended[user] for user in young_.user.tolist()]) == label
    assert right.mean() > 0.85
    assert probability.mean() == pytest.approx(right.mean(), abs=0.08)
    assert found["young_trees_calibration_error"] < 0.1


def test_where_trees_do_no_better_all_are_said_to_stay() -> None:
    one, model = trained(400, 0.0)
    known = assign(version(), log(2, 50).raw)
    for trusted in (False, True):
        label, probability = predict(msgspec.structs.replace(model, trusted=trusted), known.features, known.segment)
        assert ((0 <= probability) & (probability <= 1)).all()
        assert (label == known.segment).all() or trusted
    found = one.figures()
    assert one.trusted == (found["young_trees"] >= found["young_stay"])
    assert found["young_predictions"] == 400 - 100 - (found["young_predictions"] < 300) or one._counts[0] > 200


def test_a_line_does_not_see_its_batch() -> None:
    _, model = trained(400)
    known = assign(version(), log(2, 50).raw)
    segment = known.segment.copy()
    segment[::7] = 99  # never seen
    for one in (model, msgspec.structs.replace(model, trusted=not model.trusted)):
        label, probability = predict(one, known.features, segment)
        for i in range(len(segment)):
            alone = predict(one, known.features[i : i + 1], segment[i : i + 1])
            assert (alone[0][0], alone[1][0]) == (label[i], probability[i])
        assert (label[::7] == 99).all()


def test_nothing_is_foretold_from_few_rows() -> None:
    one = Young.start(PARAMS)
    one.learn(log(1, PARAMS.least - 1), version())
    assert one.publish([]) is None
    assert one.figures()["young_predictions"] == 0.0


def test_what_is_kept_is_bounded() -> None:
    rows = log(4, 600)
    one = Young.start(PARAMS)
    for a in range(0, len(rows), 50):
        one.learn(rows.take(slice(a, a + 50)), version())
        assert one._waiting.size <= PARAMS.waiting
        assert len(one._label) < PARAMS.window
    lost = rows.take(rows.kind == ROW)  # whose first days never end
    one.learn(lost, version())
    assert one._waiting.size == PARAMS.waiting
    late = log(5, 3)
    late.now[:] += 10 * young.PATIENCE
    one.learn(late.take(late.kind == DAY), version())
    one.publish([])
    assert one._waiting.size == 0


def test_the_end_of_another_life_says_nothing() -> None:
    rows = log(6, 40)
    rows.born[rows.kind == DAY] += 300_000
    one = Young.start(PARAMS)
    one.learn(rows, version())
    assert one._label == []


def test_rows_about_a_merged_segment_are_its_heirs_and_those_of_a_retired_one_are_left_out() -> None:
    rows = log(7, 60)
    one, other = (Young.start(Params(least=1)) for _ in range(2))
    for each in (one, other):
        each.learn(rows.take(slice(0, 100)), version())
        each.publish([])
    before = list(zip(one._segment, one._label, strict=True))
    model = one.publish(LINEAGE[5])
    to = {0: 0, 1: -1, 2: 3, 3: 3}
    wanted = [(to[a], to[b]) for a, b in before]
    assert list(zip(one._segment, one._label, strict=True)) == [pair for pair in wanted if min(pair) >= 0]
    assert model is not None
    assert set(model.segment) <= {0, 3} >= set(model.nodes.label)
    waiting = {user: [to[entry.segment] for entry in entries] for user, entries in other._waiting.items()}
    kept = {user: [s for s in segments if s >= 0] for user, segments in waiting.items()}
    assert {u: [e.segment for e in entries] for u, entries in one._waiting.items()} == {u: s for u, s in kept.items() if s}


def test_an_heir_that_ends_too_hands_on() -> None:
    ended = [Lineage("merged", 1, heirs=[(2, 0.8)]), Lineage("merged", 2, heirs=[(3, 0.8)]), Lineage("retired", 4)]
    assert young.heirs(ended) == {1: 3, 2: 3, 4: -1}
    assert young.heirs([Lineage("born", 5)]) == {}


def test_the_first_day_is_the_workers() -> None:
    born = START + np.array([0, 1, 11, 12, 25]) * 300_000
    assert (day_end(born) == training.day_end(born // 300_000)).all()
    assert is_young(np.array([START, START + 25 * HOUR_MS, START]), np.array([START, START, 0])).tolist() == [
        True, False, False,
    ]  # fmt: skip


def test_other_records_say_nothing() -> None:
    rows = log(8, 50)
    rows.kind[rows.kind == ROW] = OUTCOME
    one = Young.start(PARAMS)
    one.learn(rows, version())
    assert (one._label, one._waiting.size) == ([], 0)
