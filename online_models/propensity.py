"""How likely a shopper is to buy within seven days, and to add a cart in the next session if there is one. What a
version says of it: weights, evaluated on whole batches.

A shopper in a visit and one who is away are asked of two models: most who buy do so in the visit that they are in, and
what tells them apart says little of those who are gone (measured: python -m tests.bench.propensity).
"""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.calibration import Calibration
from online_models.nearest import Floats
from online_models.rows import Ints

OUTCOMES = ("purchase", "cart")
STATES = ("visit", "away")
CLIP = 3.0  # deviations: a count that is nil for nearly all would outweigh all others


class Head(msgspec.Struct, frozen=True):
    """One outcome in one state: F = 2R + L weights of features in deviations from their means."""

    mean: list[float]
    deviation: list[float]  # 0.0: the feature says nothing
    weight: list[float]
    intercept: float
    length: float  # of the weights
    calibration: Calibration  # of scores without intercept and length: both move long after the order has settled


class Propensity(msgspec.Struct, frozen=True):
    """Heads by state, then outcome; None where too few rows were learned from."""

    ratios: int
    recent: int
    heads: list[Head | None]


def propensity(model: Propensity, raw: Floats) -> Floats:
    """Probabilities (n, 2) of a purchase within seven days and of a cart in the next session, if there is one, for raw
    lines (n, 2R + L); nan where it is not known yet. Elementwise."""
    score = scores(model, raw)
    out = np.full(score.shape, np.nan)
    away = away_from(raw, model.recent)
    for i, head in enumerate(model.heads):
        if head is not None:
            state, outcome = divmod(i, len(OUTCOMES))
            at = np.flatnonzero(away == state)
            out[at, outcome] = head.calibration.apply((score[at, outcome] - head.intercept) / head.length)
    return out


def scores(model: Propensity, raw: Floats) -> Floats:
    """The logits (n, 2) before calibration."""
    out = np.full((len(raw), len(OUTCOMES)), np.nan)
    away, columns = away_from(raw, model.recent), np.ascontiguousarray(features(raw, model.ratios).T)
    for i, head in enumerate(model.heads):
        if head is not None:
            state, outcome = divmod(i, len(OUTCOMES))
            at = np.flatnonzero(away == state)
            total = np.full(len(at), head.intercept)
            for column, mean, deviation, weight in zip(
                columns, head.mean, head.deviation, head.weight, strict=True
            ):
                if deviation:
                    total += np.clip((column[at] - mean) / deviation, -CLIP, CLIP) * weight
            out[at, outcome] = total
    return out


def features(raw: Floats, ratios: int) -> Floats:
    """All columns as logarithms (n, 2R + L). They belong to no version, so what is learned outlives its scaler."""
    return np.concatenate((np.log1p(raw[:, : 2 * ratios]), raw[:, 2 * ratios :]), axis=1)


def away_from(raw: Floats, recent: int) -> Ints:
    """Which of STATES each line (n,) is in."""
    return (raw[:, recent] <= 0).astype(np.int64)
