"""New users: trees as River's, equal bytes however the log is cut, and what becomes of segments that end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.tree import HoeffdingAdaptiveTreeClassifier

from online_models.assignment import assign
from online_models.lineage import Lineage
from online_models.prediction import first_day_learner, hoeffding
from online_models.prediction.decision_trees import DecisionTrees
from online_models.prediction.first_day import FirstDayModel, first_day_end, in_first_day, predict
from online_models.prediction.first_day_learner import FirstDayLearner, FirstDayParams, heirs
from online_models.prediction.hoeffding import Tree, add_tree
from online_models.training_rows import FIRST_DAY_ROW, HOUR_MS, OUTCOME_ROW, SAMPLE_ROW, USER, TrainingRows
from online_models.version import Version
from state import features
from streams.processing.outputs import training_records
from tests import build
from tests.processes import under_hash_seeds

PARAMS = FirstDayParams(window=80, waiting=40, least=30)
START = 500_000 * HOUR_MS
CHECKED = 40  # rows between two versions


@cache
def version() -> Version:
    return build.version(1, 5)


@cache
def pools() -> list[np.ndarray]:
    """Raw lines by the segment that they fall in, those low in the first feature first."""
    raw = np.random.default_rng(0).poisson(2.0, (3_000, 2 * features.R + len(features.PLAIN))).astype(float)
    found = assign(version(), raw)
    order = np.argsort(found.features[:, 0], kind="stable")
    return [raw[order][found.segment[order] == segment] for segment in range(4)]


def log(seed: int, n: int, follows: float = 1.0) -> TrainingRows:
    """n users' rows and first days' ends in log order. Where it follows, one whose row is high in the first feature
    ends in the next segment and others stay; else anywhere."""
    rng = np.random.default_rng(seed)
    born = START + np.sort(rng.integers(0, n * HOUR_MS // 2, n)) // 300_000 * 300_000
    segment = rng.integers(0, 4, n)
    at = rng.random(n)
    ends = np.where(rng.random(n) < follows, (segment + (at > 0.6)) % 4, rng.integers(0, 4, n))
    lines = [pools()[s][int(a * len(pools()[s]))] for s, a in zip(segment.tolist(), at.tolist(), strict=True)]
    days = [pools()[s][rng.integers(0, len(pools()[s]))] for s in ends.tolist()]
    now = np.r_[born + rng.integers(0, 5 * HOUR_MS, n), first_day_end(born)]
    ident = np.zeros((2 * n, 2), "<u8")
    ident[:, 0] = np.tile(rng.permutation(n).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15), 2)
    order = np.argsort(now, kind="stable")
    none = np.zeros(2 * n, np.int64)
    return TrainingRows(
        offset=np.arange(2 * n),
        now=now[order],
        kind=np.repeat([SAMPLE_ROW, FIRST_DAY_ROW], n).astype(np.int8)[order],
        user=ident.view(USER)[:, 0][order],
        born=np.tile(born, 2)[order],
        carts=none,
        orders=none,
        sessions=none,
        raw=np.array(lines + days)[order],
    )


ENDED = [Lineage("merged", 2, heirs=[(3, 0.9), (0, 0.1)]), Lineage("retired", 1, heirs=[(0, 0.3), (3, 0.3)])]


@cache
def versions() -> list[Version]:
    """Each after the one before: the same, centres that moved, one that was split, two that ended."""
    first = version()
    moved = msgspec.structs.replace(first, centre_bytes=(first.centres * 1.3 + 0.2).astype("<f8").tobytes())
    split = msgspec.structs.replace(moved, ids=[0, 1, 2, 3, 7], centre_bytes=_centres(moved, [0, 1, 2, 3, 1], 0.9))
    ended = msgspec.structs.replace(split, ids=[0, 3, 7], centre_bytes=_centres(split, [0, 3, 4], 1.0), lineage=ENDED)
    return [first, first, moved, moved, split, ended, ended]


def _centres(one: Version, at: list[int], factor: float) -> bytes:
    found = one.centres[at]
    found[-1] *= factor
    return found.astype("<f8").tobytes()


def fold(
    rows: TrainingRows,
    cuts: Sequence[int] = (),
    params: FirstDayParams = PARAMS,
    again: bool = False,
) -> tuple[list[bytes], list[bytes]]:
    """Models and states each CHECKED rows. cuts: further ends of calls, with `again` also of processes."""
    one, models, states = FirstDayLearner(params), [], []
    for a, b in pairwise(sorted({0, len(rows), *range(0, len(rows), CHECKED), *(c for c in cuts if c < len(rows))})):
        number = a // CHECKED
        one.learn(rows.take(slice(a, b)), versions()[min(number, len(versions()) - 1)])
        if b % CHECKED == 0:
            model = one.publish(versions()[min(number + 1, len(versions()) - 1)])
            models.append(msgspec.msgpack.encode(model))
            states.append(one.state())
        if again:
            kept = msgspec.msgpack.decode(msgspec.msgpack.encode(one.model), type=FirstDayModel | None)
            one = FirstDayLearner.resume(one.state(), params, kept)
    return models, states


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 32), st.lists(st.integers(1, 399), max_size=4), st.booleans())
def test_any_cut_and_any_stop_give_the_same_models_and_states(seed: int, cuts: list[int], again: bool) -> None:
    rows = log(seed, 200, 0.8)
    assert fold(rows, cuts, again=again) == fold(rows)


def digest() -> str:
    models, states = fold(log(3, 200))
    return hashlib.sha256(b"".join(models + states)).hexdigest()


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = "from tests.unit.online_models.prediction.test_first_day import digest; print(digest())"
    assert under_hash_seeds(code, 0, 1) == {digest()}


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
            grace_period=hoeffding.GRACE,
            delta=0.05,
            tau=0.2,
            max_depth=hoeffding.DEPTH,
            split_criterion="gini",
            leaf_prediction="mc",
            bootstrap_sampling=False,
            seed=0,
        )
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
    nodes = DecisionTrees()
    nodes.add_leaf(9, 0.5)
    root = add_tree(nodes, ours)
    label, probability = nodes.predict(np.full(len(lines), root), lines)
    for line, one, share in zip(lines.tolist(), label.tolist(), probability.tolist(), strict=True):
        theirs = rivers.predict_proba_one(dict(enumerate(line)))
        assert theirs == ours.predict_proba_one(dict(enumerate(line)))
        assert abs(max(theirs.values()) - share) < 1e-12
        assert abs(theirs[one] - share) < 1e-12


def trained(n: int = 1_500, follows: float = 1.0) -> tuple[FirstDayLearner, FirstDayModel]:
    one, rows = FirstDayLearner(FirstDayParams(window=4_000, waiting=200, least=100)), log(1, n, follows)
    for a in range(0, len(rows), 100):
        one.learn(rows.take(slice(a, a + 100)), version())
        model = one.publish(version())
    assert model is not None
    return one, model


def test_it_learns_who_moves_on() -> None:
    one, model = trained()
    found = one.figures()
    assert model.trusted
    assert found["young_trees"] > found["young_stay"] + 0.1 > found["young_majority"] + 0.2
    assert found["young_accuracy"] > found["young_stay"]
    rows = log(9, 400)
    young_ = rows.take(rows.kind == SAMPLE_ROW)
    known = assign(version(), young_.raw)
    label, probability = predict(model, known.features, known.segment)
    days = rows.take(rows.kind == FIRST_DAY_ROW)
    ended = dict(zip(days.user.tolist(), assign(version(), days.raw).segment.tolist(), strict=True))
    right = np.array([ended[user] for user in young_.user.tolist()]) == label
    assert right.mean() > 0.85
    assert probability.mean() == pytest.approx(right.mean(), abs=0.08)
    assert found["young_calibration_error"] < 0.1


def test_where_trees_do_no_better_all_are_said_to_stay() -> None:
    one, model = trained(400, 0.0)
    known = assign(version(), log(2, 50).raw)
    for trusted in (False, True):
        label, probability = predict(msgspec.structs.replace(model, trusted=trusted), known.features, known.segment)
        assert ((probability >= 0) & (probability <= 1)).all()
        assert (label == known.segment).all() or trusted
    found = one.figures()
    assert not one.trusted
    assert found["young_accuracy"] == found["young_stay"]


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
    one = FirstDayLearner(PARAMS)
    one.learn(log(1, PARAMS.least - 1), version())
    assert one.publish(version()) is None
    assert one.figures()["young_predictions"] == 0.0


def test_what_is_kept_is_bounded() -> None:
    rows = log(4, 600)
    one = FirstDayLearner(PARAMS)
    for a in range(0, len(rows), 50):
        one.learn(rows.take(slice(a, a + 50)), version())
        assert one._waiting.size <= PARAMS.waiting
        assert len(one._examples) < PARAMS.window
    lost = rows.take(rows.kind == SAMPLE_ROW)  # whose first days never end
    one.learn(lost, version())
    assert one._waiting.size == PARAMS.waiting
    late = log(5, 3)
    late.now[:] += 10 * first_day_learner.PATIENCE
    one.learn(late.take(late.kind == FIRST_DAY_ROW), version())
    one.publish(version())
    assert one._waiting.size == 0


def test_the_end_of_another_life_says_nothing() -> None:
    rows = log(6, 40)
    rows.born[rows.kind == FIRST_DAY_ROW] += 300_000
    one = FirstDayLearner(PARAMS)
    one.learn(rows, version())
    assert one._examples == []


def pairs(one: FirstDayLearner) -> list[tuple[int, int]]:
    return [(kept.segment, kept.label) for kept in one._examples]


def test_rows_are_seen_as_a_new_version_sees_them() -> None:
    rows = log(7, 60)
    one = FirstDayLearner(FirstDayParams(least=1))
    one.learn(rows, version())
    one.publish(version())
    first, split, ended = pairs(one), versions()[4], versions()[5]
    for new in (split, ended):
        model = one.publish(new)
        by_user = dict(zip(rows.user.tolist(), rows.raw, strict=True))  # of the day, at last
        days = [
            user for user, kind in zip(rows.user.tolist(), rows.kind.tolist(), strict=True) if kind == FIRST_DAY_ROW
        ]
        wanted = assign(new, np.array([by_user[user] for user in days])).segment.tolist()
        assert [label for _, label in pairs(one)] == wanted
        assert model is not None
        assert {*model.segment, *model.nodes.label} <= {*new.ids}
    assert pairs(one) != first


def test_trees_stay_where_a_version_moves_few(monkeypatch: pytest.MonkeyPatch) -> None:
    one = FirstDayLearner(FirstDayParams(least=1))
    one.learn(log(7, 60), version())
    one.publish(version())
    before, trees = pairs(one), dict(one._trees)
    moved = versions()[2]
    monkeypatch.setattr(first_day_learner, "MOVED", 0.999)
    one.publish(moved)
    assert (pairs(one), one._trees) == (before, trees)
    monkeypatch.undo()
    one.publish(moved)
    assert pairs(one) != before


def test_what_was_foretold_of_an_ended_segment_is_its_heirs() -> None:
    rows = log(7, 300)
    one, other = (FirstDayLearner(FirstDayParams(least=1)) for _ in range(2))
    for each in (one, other):
        for a in range(0, 400, 100):
            each.learn(rows.take(slice(a, a + 100)), version())
            each.publish(version())
    one.publish(versions()[5])
    to = {-1: -1, 0: 0, 1: -1, 2: 3, 3: 3}
    for (_, entries), (_, before) in zip(one._waiting.items(), other._waiting.items(), strict=True):
        assert [(entry.segment, entry.label) for entry in entries] == [
            (to[entry.segment], to[entry.label]) for entry in before
        ]
    counted = one._counts[0]
    waiting = [entry for _, entries in one._waiting.items() for entry in entries]
    rest = rows.take(slice(400, 600))
    one.learn(rest.take(rest.kind == FIRST_DAY_ROW), versions()[5])
    assert one._counts[0] - counted == sum(entry.label >= 0 and entry.segment >= 0 for entry in waiting)


def test_an_heir_that_ends_too_hands_on() -> None:
    ended = [Lineage("merged", 1, heirs=[(2, 0.8)]), Lineage("merged", 2, heirs=[(3, 0.8)]), Lineage("retired", 4)]
    assert heirs(ended) == {1: 3, 2: 3, 4: -1}
    assert heirs([Lineage("born", 5)]) == {}


def test_the_first_day_is_the_workers() -> None:
    born = START + np.array([0, 1, 11, 12, 25]) * 300_000
    assert (first_day_end(born) == training_records.day_end(born // 300_000)).all()
    assert in_first_day(np.array([START, START + 25 * HOUR_MS, START]), np.array([START, START, 0])).tolist() == [
        True,
        False,
        False,
    ]


def test_other_records_say_nothing() -> None:
    rows = log(8, 50)
    rows.kind[rows.kind == SAMPLE_ROW] = OUTCOME_ROW
    one = FirstDayLearner(PARAMS)
    one.learn(rows, version())
    assert (one._examples, one._waiting.size) == ([], 0)
