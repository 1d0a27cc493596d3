"""How likely a shopper is to buy within seven days, and to add a cart in the next session if there is one. What a
version says of it: weights, evaluated on whole batches.

Of a purchase a shopper in a visit and one who is away are asked of two heads: most who buy do so in the visit that they
are in, and what tells them apart says little of those who are gone (measured: python -m tests.bench.propensity).
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats
from online_models.prediction.calibration import Calibration
from online_models.training_rows import Ints

OUTCOMES = ("purchase", "cart")
HEADS = ("purchase_visit", "purchase_away", "cart")
OUTCOME_OF = (0, 0, 1)  # of each head
VISIT = 30 * 60_000  # ms without an event that end a visit, as they do a session (state/fold.py)
CLIP = 3.0  # deviations: a count that is nil for nearly all would outweigh all others


class Head(msgspec.Struct, frozen=True):
    """F = 2R + L weights of features in deviations from their means."""

    mean: list[float]
    deviation: list[float]  # 0.0: the feature says nothing
    weight: list[float]
    intercept: float
    length: float  # of the weights
    calibration: Calibration  # of scores without intercept and length: both move long after the order has settled


class Propensity(msgspec.Struct, frozen=True):
    """One of HEADS each; None where too few rows were learned from."""

    ratios: int
    heads: list[Head | None]


def propensity(model: Propensity, raw: Floats, away: NDArray[np.bool_]) -> Floats:
    """Probabilities (n, 2) of OUTCOMES: a purchase within seven days, a cart in the next session if there is one; nan
    where it is not known yet. Elementwise. raw (n, 2R + L), away (n,) who is in no visit."""
    out = np.full((len(raw), len(OUTCOMES)), np.nan)
    columns = np.ascontiguousarray(features(raw, model.ratios).T)
    for head, outcome, at in zip(model.heads, OUTCOME_OF, lines_of(away), strict=True):
        if head is not None:
            along = (score(head, columns[:, at]) - head.intercept) / head.length
            out[at, outcome] = head.calibration.apply(along)
    return out


def score(head: Head, columns: Floats) -> Floats:
    """The logits (n,) of features (F, n), before calibration."""
    total = np.full(columns.shape[1], head.intercept)
    for column, mean, deviation, weight in zip(columns, head.mean, head.deviation, head.weight, strict=True):
        if deviation:
            total += np.clip((column - mean) / deviation, -CLIP, CLIP) * weight
    return total


def lines_of(away: NDArray[np.bool_]) -> tuple[Ints, ...]:
    """The lines (indices) that each of HEADS is asked about."""
    return np.flatnonzero(~away), np.flatnonzero(away), np.arange(len(away))


def is_away(now: Ints | int, last: Ints) -> NDArray[np.bool_]:
    """Who is in no visit as of now (ms), from the times (n,) of their newest events (ms)."""
    return now - last > VISIT


def features(raw: Floats, ratios: int) -> Floats:
    """All columns as logarithms (n, 2R + L). They belong to no version, so what is learned outlives its scaler."""
    return np.concatenate((np.log1p(raw[:, : 2 * ratios]), raw[:, 2 * ratios :]), axis=1)


def check(model: Propensity, width: int, ratios: int) -> None:
    """ValueError, with the reason, where it is not for raw lines of this width (2R + L) and so many ratios."""
    if model.ratios != ratios or len(model.heads) != len(HEADS):
        found = f"{len(model.heads)} heads over {model.ratios} ratios"
        raise ValueError(f"propensity: {found}, expected {len(HEADS)} over {ratios}")
    for name, head in zip(HEADS, model.heads, strict=True):
        if head is None:
            continue
        columns = (head.mean, head.deviation, head.weight)
        if any(len(column) != width for column in columns):
            raise ValueError(f"propensity: {name} is not for lines of {width} columns")
        if not np.isfinite([*head.mean, *head.deviation, *head.weight, head.intercept, head.length]).all():
            raise ValueError(f"propensity: {name} has a weight that is no finite number")
        if min(head.deviation, default=0.0) < 0 or head.length <= 0:
            raise ValueError(f"propensity: {name} has a deviation or a length that is not above 0")
        head.calibration.check(f"propensity: {name}")
