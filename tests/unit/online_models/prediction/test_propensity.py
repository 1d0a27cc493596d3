"""Propensities: labels as outcomes.py has them, River's numbers, equal bytes however the log is cut."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from online_models import outcomes
from online_models.prediction.propensity import (
    CLIP,
    HEADS,
    VISIT,
    PropensityModel,
    inputs,
    is_away,
    rows_of_heads,
    score,
)
from online_models.prediction.propensity import predict as predict_propensity
from online_models.prediction.propensity_learner import PropensityLearner, PropensityParams, _Waiting
from online_models.training_rows import FIRST_DAY_ROW, OUTCOME_ROW, SAMPLE_ROW, USER, TrainingRows
from state.history import SESSION_GAP
from tests.processes import under_hash_seeds

R, L = 2, 3
HOUR = 3_600_000
PARAMS = PropensityParams(R, waiting=30, least=10, horizon=40 * HOUR)
CHECKED = 50  # rows between two versions


def log(seed: int, n: int, users: int = 12, *, sells: float = 0.2) -> TrainingRows:
    """Records of all kinds, one an hour or so; totals grow, and at times start again. No first day ends in a visit."""
    rng = np.random.default_rng(seed)
    raw = np.c_[rng.poisson(1.5, (n, 2 * R)), np.log1p(rng.poisson(0.7, (n, L)))].astype(float)
    user = rng.integers(0, users, n)
    totals = np.zeros((users, 3), np.int64)
    columns = np.zeros((n, 3), np.int64)
    for i, one in enumerate(user.tolist()):
        if rng.random() < 0.02:
            totals[one] = 0
        totals[one] += rng.random(3) < (0.4, 0.3, sells)
        columns[i] = totals[one]
    ident = np.zeros((n, 2), "<u8")
    ident[:, 0] = user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    now, kind = np.cumsum(rng.integers(0, 2 * HOUR, n)), rng.integers(0, 3, n).astype(np.int8)
    last = dict.fromkeys(range(users), -HOUR)
    for i, one in enumerate(user.tolist()):
        if kind[i] == FIRST_DAY_ROW and not is_away(now[i : i + 1], last[one])[0]:
            kind[i] = OUTCOME_ROW
        last[one] = int(now[i])
    return TrainingRows(
        offset=np.arange(n),
        now=now,
        kind=kind,
        user=ident.view(USER)[:, 0],
        born=np.zeros(n, np.int64),
        sessions=columns[:, 0],
        carts=columns[:, 1],
        orders=columns[:, 2],
        raw=raw,
    )


def fold(
    rows: TrainingRows,
    cuts: Sequence[int] = (),
    again: bool = False,
) -> tuple[list[bytes], list[bytes]]:
    """Models and states each CHECKED rows. cuts: further ends of calls, with `again` also of processes."""
    one, models, states = PropensityLearner(PARAMS), [], []
    for a, b in pairwise(sorted({0, len(rows), *range(0, len(rows), CHECKED), *(c for c in cuts if c < len(rows))})):
        one.learn(rows.take(slice(a, b)))
        if b % CHECKED == 0:
            models.append(msgspec.msgpack.encode(one.publish()))
            states.append(one.state())
        if again:
            kept = msgspec.msgpack.decode(msgspec.msgpack.encode(one.model), type=PropensityModel | None)
            one = PropensityLearner.resume(one.state(), PARAMS, kept)
    return models, states


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.lists(st.integers(1, 399), max_size=4), st.booleans())
def test_any_cut_and_any_stop_give_the_same_models_and_states(seed: int, cuts: list[int], again: bool) -> None:
    rows = log(seed, 400)
    assert fold(rows, cuts, again) == fold(rows)


def digest() -> str:
    models, states = fold(log(3, 400))
    return hashlib.sha256(b"".join(models + states)).hexdigest()


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = "from tests.unit.online_models.prediction.test_propensity import digest; print(digest())"
    assert under_hash_seeds(code, 0, 1) == {digest()}


class Watched(PropensityLearner):
    """Keeps what it learns from."""

    def _learn_entry(self, one: _Waiting) -> None:
        self.__dict__.setdefault("seen", {})[one.number] = (one.bought, one.carts_next > one.carts_same, one.returned)
        super()._learn_entry(one)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 300), st.integers(1, 15))
def test_what_came_of_a_row_is_what_the_batch_evaluation_says(seed: int, n: int, users: int) -> None:
    rows = log(seed, n, users)
    one = Watched(msgspec.structs.replace(PARAMS, waiting=1_000))
    one.learn(rows)
    asked = np.flatnonzero(rows.kind != OUTCOME_ROW)
    whole = outcomes.outcomes(replace(rows, kind=np.full(n, SAMPLE_ROW, np.int8)), PARAMS.horizon)
    wanted = {
        number: (bool(whole.bought[i]), bool(whole.carted[i]), bool(whole.returned[i]))
        for number, i in enumerate(asked.tolist())
        if whole.ripe[i]
    }
    assert one.__dict__.get("seen", {}) == wanted


def taught(seed: int, n: int) -> tuple[PropensityLearner, TrainingRows, np.ndarray, float]:
    """A learner of n shoppers each seen twice, in a visit and away: what the first column says decides in a visit, the
    second when away. Then their rows, how likely each was to buy, and the best area under the curve that there is."""
    rng = np.random.default_rng(seed)
    raw = np.c_[rng.poisson(3.0, (n, 2 * R)), rng.normal(size=(n, L))].astype(float)
    away = rng.random(n) < 0.5
    lines = inputs(raw, R)
    chance = 1 / (1 + np.exp(13.0 - 7.0 * np.where(away, lines[:, 1], lines[:, 0])))
    buys = rng.random(n) < chance
    now = np.arange(n) * 600_000
    ident = np.zeros((n, 2), "<u8")
    ident[:, 0] = np.arange(1, n + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    user, nought = ident.view(USER)[:, 0], np.zeros(n, np.int64)
    first = TrainingRows(
        nought,
        now,
        np.where(away, FIRST_DAY_ROW, SAMPLE_ROW).astype(np.int8),
        user,
        nought,
        nought,
        nought,
        nought,
        raw,
    )
    at = np.flatnonzero(buys)
    later = replace(first.take(at), now=now[at] + 5 * HOUR, kind=np.ones(len(at), np.int8))
    later.orders[:] = 1
    order = np.argsort(np.r_[first.now, later.now], kind="stable")
    rows = TrainingRows(
        *(np.concatenate((getattr(first, name), getattr(later, name)))[order] for name in first.__slots__)
    )
    one = PropensityLearner(PropensityParams(R, waiting=5_000, least=200, horizon=10 * HOUR))
    for a in range(0, len(rows), 500):
        one.learn(rows.take(slice(a, a + 500)))
        one.publish()
    return one, rows, chance, roc_auc_score(buys, chance)


def test_it_learns_who_buys_in_either_state_and_says_how_likely() -> None:
    one, rows, _, _ = taught(1, 8_000)
    found = one.figures()
    assert one.model is not None
    assert np.isnan(predict_propensity(one.model, rows.raw, rows.kind == FIRST_DAY_ROW)[:, 1]).all()
    _, second, chance, _ = taught(2, 4_000)
    second = second.take(second.kind != OUTCOME_ROW)  # in the order of the shoppers, as chance is
    away = second.kind == FIRST_DAY_ROW
    told = predict_propensity(one.model, second.raw, away)[:, 0]
    buys = np.random.default_rng(3).random(len(told)) < chance
    assert found["cart_predictions"] == 0.0  # nobody came back
    for name, here in zip(HEADS[:2], rows_of_heads(away)[:2], strict=True):
        assert found[f"{name}_auc"] > 0.75  # from the first predictions on
        assert roc_auc_score(buys[here], told[here]) > roc_auc_score(buys[here], chance[here]) - 0.02
        assert told[here].mean() == pytest.approx(chance[here].mean(), rel=0.25)


def test_scores_are_rivers() -> None:
    one, rows, *_ = taught(3, 1_500)
    assert one.model is not None
    columns = inputs(rows.raw[:100], R)
    for fit, head in zip(one._regressions[:2], one.model.heads[:2], strict=True):
        assert head is not None
        found = score(head, np.ascontiguousarray(columns.T))
        for line, logit in zip(columns.tolist(), found.tolist(), strict=True):
            x = fit.scaler.transform_one(dict(enumerate(line)))
            x = {j: min(CLIP, max(-CLIP, value)) for j, value in x.items()}
            assert abs(fit.river.predict_proba_one(x)[True] - 1 / (1 + np.exp(-logit))) < 1e-12


def test_a_line_does_not_see_its_batch() -> None:
    one, rows, *_ = taught(4, 1_500)
    assert one.model is not None
    away = rows.kind == FIRST_DAY_ROW
    whole = predict_propensity(one.model, rows.raw[:60], away[:60])
    for i in range(60):
        assert predict_propensity(one.model, rows.raw[i : i + 1], away[i : i + 1])[0].tobytes() == whole[i].tobytes()


def test_who_is_in_a_visit_is_not_away() -> None:
    assert is_away(VISIT + 5, np.array([5, 4])).tolist() == [False, True]
    assert VISIT == SESSION_GAP
    rows = log(6, 4, 1)
    rows.kind[:] = [SAMPLE_ROW, OUTCOME_ROW, FIRST_DAY_ROW, FIRST_DAY_ROW]
    for apart, waiting in ((VISIT, 2), (VISIT + 1, 3)):
        rows.now[:] = [0, 5 * HOUR, 5 * HOUR + apart, 9 * HOUR]
        one = PropensityLearner(PARAMS)
        one.learn(rows)
        assert one._waiting.size == waiting


def test_nothing_is_foretold_from_few_rows_and_what_waits_is_bounded() -> None:
    rows = log(5, 300, 60)
    one = PropensityLearner(msgspec.structs.replace(PARAMS, least=10_000))
    for a in range(0, len(rows), 30):
        one.learn(rows.take(slice(a, a + 30)))
        assert one._waiting.size <= PARAMS.waiting
        assert one._waiting.size == len(one._due)
    assert one.publish() is None
    assert one.figures()["purchase_visit_predictions"] == 0.0
