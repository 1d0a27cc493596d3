"""What turns a raw matrix into features: shrunken ratios, robust scaling, a fixed grid.

Nothing here is a constant of one shop: priors, strengths, medians, ranges and weights come from people's newest rows.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GRID = 65_536.0  # features are whole multiples of 2**-16
CLIP = 2.0  # scaled units: beyond it a value says no more
PAIRS = 50.0  # pairs of rows that a feature's full weight counts for
STRENGTHS = (1.0, 50.0)  # bounds of a prior's weight, in events


class Scaler(msgspec.Struct, frozen=True):
    """Learned parameters; R ratios, F = R + L features."""

    prior: list[float]  # (R,) ratio of the population
    strength: list[float]  # (R,) how many events the prior counts for
    median: list[float]  # (F,)
    spread: list[float]  # (F,) of the middle half, or the standard deviation where that is nil
    clip: float = CLIP
    weight: list[float] = []  # (F,) how much of a feature lasts in a person, 0 to 1; empty: all of it

    def check(self, ratios: int, width: int) -> None:
        """ValueError where it is none for R ratios and F = `width` features."""
        lengths = [len(self.prior), len(self.strength), len(self.median), len(self.spread)]
        if lengths != [ratios, ratios, width, width] or len(self.weight) not in (0, width):
            raise ValueError("the scaler is for other features")
        every = np.array([*self.prior, *self.strength, *self.median, *self.spread, *self.weight, self.clip])
        if not np.isfinite(every).all() or min(self.clip, *self.spread) <= 0 or min(self.strength, default=1.0) <= 0:
            raise ValueError("the scaler's numbers are no scaling")

    def transform(self, raw: Floats) -> Floats:
        """Features (n, F) of a raw matrix (n, 2R + L): R numerators, R denominators, L plain columns.

        Elementwise: a line does not depend on the lines around it. Ratios are taken as log1p, so that those of
        money and those of counts lie on one scale.
        """
        return self._transform(raw, self.weight)

    def scaled(self, raw: Floats) -> Floats:
        """The same without the weights."""
        return self._transform(raw, [])

    def _transform(self, raw: Floats, weight: list[float]) -> Floats:
        columns = _shrink(raw, self.prior, self.strength)
        for i, column in enumerate(columns):
            column -= self.median[i]
            column /= self.spread[i]
            np.clip(column, -self.clip, self.clip, out=column)
            if weight:
                column *= weight[i]
            column *= GRID
            np.rint(column, out=column)
            column /= GRID
        return np.ascontiguousarray(np.stack(columns, 1)) if columns else np.zeros((len(raw), 0))


def fit(raw: Floats, ratios: int, clip: float = CLIP) -> Scaler:
    """Parameters from the rows (n, 2R + L) of n >= 1 people."""
    prior, strength = [], []
    for i in range(ratios):
        above, below = raw[:, i], raw[:, ratios + i]
        total = float(below.sum())
        rate = float(above.sum()) / total if total > 0 else 0.0
        prior.append(rate)
        strength.append(_strength(above, below, rate))
    columns = _shrink(raw, prior, strength)
    median, spread = [], []
    for column in columns:
        low, middle, high = np.quantile(column, [0.25, 0.5, 0.75])
        deviation = float(column.std())
        # a column that is the same for three in four lines has no middle half: it is scaled by its deviation
        width = max(float(high - low) / 1.349, deviation)
        median.append(float(middle))
        spread.append(width if width > 1e-9 else 1.0)
    return Scaler(prior, strength, median, spread, clip)


def weigh(scaler: Scaler, raw: Floats, pairs: float, change: Floats) -> Scaler:
    """The scaler with weights: which part of a feature's variance over people (rows (n, 2R + L), one a person) lies
    between them and does not come and go within one.

    change (F,): sum over `pairs` pairs of rows of one person, days apart, of half the squared difference in scaled
    units. What comes and goes is no kind of shopper: this is the intraclass correlation (Fisher 1925).
    """
    spread = scaler.scaled(raw).var(0)
    within = change / max(pairs, 1.0)
    lasting = np.clip(1.0 - within / np.where(spread > 0, spread, 1.0), 0.0, 1.0)
    weight = (pairs * lasting + PAIRS) / (pairs + PAIRS)
    return msgspec.structs.replace(scaler, weight=weight.tolist())


def blend(old: Scaler, new: Scaler, share: float) -> Scaler:
    """A scaler on the way from one to another: share 0 is the old one, 1 the new one."""
    if share >= 1.0:
        return new

    def between(a: list[float], b: list[float]) -> list[float]:
        return [x + share * (y - x) for x, y in zip(a, b, strict=True)]

    return Scaler(
        between(old.prior, new.prior), between(old.strength, new.strength), between(old.median, new.median),
        between(old.spread, new.spread), new.clip, between(old.weight, new.weight),
    )  # fmt: skip


def _strength(above: Floats, below: Floats, rate: float) -> float:
    """Moments of the ratio between shoppers against what chance alone would give."""
    some = below > 0
    if rate <= 0 or some.sum() < 20:
        return STRENGTHS[1]
    ratio = above[some] / below[some]
    between = float(ratio.var())
    chance = rate * float((1.0 / below[some]).mean())  # Poisson
    true = between - chance
    return float(np.clip(rate / true if true > 0 else STRENGTHS[1], *STRENGTHS))


def _shrink(raw: Floats, prior: list[float], strength: list[float]) -> list[Floats]:
    columns = np.ascontiguousarray(raw.T)
    ratios = len(prior)
    out = [
        np.log1p((columns[i] + prior[i] * strength[i]) / (columns[ratios + i] + strength[i])) for i in range(ratios)
    ]
    return out + [columns[i].copy() for i in range(2 * ratios, len(columns))]
