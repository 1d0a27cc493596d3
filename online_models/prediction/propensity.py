"""Propensities: how likely a shopper is to buy within seven days, and to add a cart in the next session, if any.

This is what a version says: weights, evaluated on whole batches; online_models/prediction/propensity_learner.py learns
them. Of a purchase, two heads are asked: one of shoppers in a visit, one of those who are away. Most who buy do so in
the visit that they are in, and what tells them apart says little of those who are gone (measured: python -m
tests.bench.propensity).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats
from online_models.prediction.calibration import Calibration
from online_models.prediction.side_model import Column, Shoppers, SideLearner, Values
from online_models.training_rows import Ints

if TYPE_CHECKING:
    from online_models.version import Version

OUTCOMES = ("purchase", "cart")
HEADS = ("purchase_visit", "purchase_away", "cart")
OUTCOME_OF = (0, 0, 1)  # of each head, index in OUTCOMES
VISIT = 30 * 60_000  # ms without an event that end a visit, as they do a session (state/fold.py)
CLIP = 3.0  # deviations: a count that is nil for nearly all would outweigh all others


class Head(msgspec.Struct, frozen=True):
    """A logistic regression over W = 2R + L inputs, taken in deviations from their means."""

    mean: list[float]  # (W,)
    deviation: list[float]  # (W,) 0.0: the input says nothing
    weight: list[float]  # (W,)
    intercept: float
    length: float  # of the weights
    calibration: Calibration  # of scores without intercept and length: both move long after the order has settled


class PropensityModel(msgspec.Struct, frozen=True):
    """One of HEADS each; None where too few rows were learned from."""

    ratios: int
    heads: list[Head | None]


def predict(model: PropensityModel, raw: Floats, away: NDArray[np.bool_]) -> Floats:
    """Probabilities (n, 2) of OUTCOMES: a purchase within seven days, a cart in the next session if there is one; nan
    where it is not known yet. Elementwise. raw (n, 2R + L), away (n,): who is in no visit."""
    probability = np.full((len(raw), len(OUTCOMES)), np.nan)
    columns = np.ascontiguousarray(inputs(raw, model.ratios).T)
    for head, outcome, rows in zip(model.heads, OUTCOME_OF, rows_of_heads(away), strict=True):
        if head is not None:
            direction = (score(head, columns[:, rows]) - head.intercept) / head.length
            probability[rows, outcome] = head.calibration.apply(direction)
    return probability


def score(head: Head, columns: Floats) -> Floats:
    """The logits (n,) of inputs (W, n), before calibration."""
    total = np.full(columns.shape[1], head.intercept)
    for column, mean, deviation, weight in zip(columns, head.mean, head.deviation, head.weight, strict=True):
        if deviation:
            total += np.clip((column - mean) / deviation, -CLIP, CLIP) * weight
    return total


def rows_of_heads(away: NDArray[np.bool_]) -> tuple[Ints, ...]:
    """The rows (indices) that each of HEADS is asked about."""
    return np.flatnonzero(~away), np.flatnonzero(away), np.arange(len(away))


def is_away(now: Ints | int, last: Ints) -> NDArray[np.bool_]:
    """Who is in no visit as of now (ms), from the times (n,) of their newest events (ms)."""
    return now - last > VISIT


def inputs(raw: Floats, ratios: int) -> Floats:
    """All columns as logarithms (n, 2R + L). They belong to no version, so what is learned outlives its scaler."""
    return np.concatenate((np.log1p(raw[:, : 2 * ratios]), raw[:, 2 * ratios :]), axis=1)


def check(model: PropensityModel, width: int, ratios: int) -> None:
    """ValueError, with the reason, where it is not for raw rows of this width (2R + L) and so many ratios."""
    if model.ratios != ratios or len(model.heads) != len(HEADS):
        actual = f"{len(model.heads)} heads over {model.ratios} ratios"
        raise ValueError(f"propensity: {actual}, expected {len(HEADS)} over {ratios}")
    for name, head in zip(HEADS, model.heads, strict=True):
        if head is None:
            continue
        columns = (head.mean, head.deviation, head.weight)
        if any(len(column) != width for column in columns):
            raise ValueError(f"propensity: {name} is not for rows of {width} columns")
        if not np.isfinite([*head.mean, *head.deviation, *head.weight, head.intercept, head.length]).all():
            raise ValueError(f"propensity: {name} has a weight that is no finite number")
        if min(head.deviation, default=0.0) < 0 or head.length <= 0:
            raise ValueError(f"propensity: {name} has a deviation or a length that is not above 0")
        head.calibration.check(f"propensity: {name}")


class _Propensity:
    """The SideModel."""

    name = "propensity"
    model = PropensityModel
    columns = (Column("purchase_within_7d", np.float32), Column("cart_next_session", np.float32))

    def check(self, model: PropensityModel, version: Version) -> None:
        check(model, len(version.names) + version.ratios, version.ratios)

    # the learner is imported where it is made: River takes a second, which no reader of versions has to pay
    def start(self, ratios: int) -> SideLearner[PropensityModel]:
        from online_models.prediction.propensity_learner import PropensityLearner, PropensityParams

        return PropensityLearner(PropensityParams(ratios))

    def resume(self, state: bytes, model: PropensityModel | None, ratios: int) -> SideLearner[PropensityModel]:
        from online_models.prediction.propensity_learner import PropensityLearner, PropensityParams

        return PropensityLearner.resume(state, PropensityParams(ratios), model)

    def predict(self, model: PropensityModel, version: Version, shoppers: Shoppers) -> list[Values]:
        probability = predict(model, shoppers.raw, is_away(shoppers.now, shoppers.last))
        return [Values(column, np.isnan(column)) for column in probability.T]


PROPENSITY = _Propensity()
