"""From a raw matrix to features: shrunken ratios, robust scaling, a fixed grid.

Nothing here is a constant of one shop: priors, strengths, medians, ranges and weights come from people's newest rows.

A raw matrix (n, 2R + L) has R numerators, R denominators and L plain columns; features (n, F) have F = R + L columns.
"""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.distances import Floats
from state.compiled import compiled

GRID = 65_536.0  # features are whole multiples of 2**-16
CLIP = 2.0  # scaled units: beyond it a value says no more
FULL_WEIGHT_PAIRS = 50.0  # pairs of rows that a feature's full weight counts for
STRENGTH_BOUNDS = (1.0, 50.0)  # of a prior's weight, in events
FEWEST_RATIOS = 20  # shoppers with a denominator, below which the strength is not estimated
SIGMAS_OF_MIDDLE_HALF = 1.349  # width of the middle half of a normal distribution, in standard deviations


class Scaler(msgspec.Struct, frozen=True):
    """Learned parameters, for R ratios and F features."""

    prior: list[float]  # (R,) ratio of the population
    strength: list[float]  # (R,) how many events the prior counts for
    median: list[float]  # (F,)
    spread: list[float]  # (F,) of the middle half, or the standard deviation where that is larger
    clip: float = CLIP
    weight: list[float] = []  # (F,) how much of a feature lasts in a person, 0 to 1; empty: all of it

    def check(self, ratios: int, width: int) -> None:
        """ValueError unless this is a scaler for R = `ratios` and F = `width`."""
        lengths = [len(self.prior), len(self.strength), len(self.median), len(self.spread)]
        if lengths != [ratios, ratios, width, width] or len(self.weight) not in (0, width):
            raise ValueError("the scaler is for other features")
        every = np.array([*self.prior, *self.strength, *self.median, *self.spread, *self.weight, self.clip])
        if not np.isfinite(every).all() or min(self.clip, *self.spread) <= 0 or min(self.strength, default=1.0) <= 0:
            raise ValueError("the scaler's numbers are no scaling")

    def transform(self, raw: Floats) -> Floats:
        """Features (n, F) of a raw matrix (n, 2R + L), on the grid.

        Elementwise: a row does not depend on the rows around it. Ratios are taken as log1p, so that those of money and
        those of counts lie on one scale.

        >>> Scaler([0.5], [1.0], [0.0], [1.0]).transform(np.array([[1.0, 2.0]])).tolist()
        [[0.4054718017578125]]
        """
        return self._transform(raw, self.weight)

    def scaled(self, raw: Floats) -> Floats:
        """As transform(), without the features' weights."""
        return self._transform(raw, [])

    def _transform(self, raw: Floats, weight: list[float]) -> Floats:
        if raw.shape[1] != len(self.prior) + len(self.median):  # _scale does not check it
            raise ValueError(f"{raw.shape[1]} columns; the scaler was fitted to {len(self.prior) + len(self.median)}")
        logs = _log_ratios(raw, self.prior, self.strength)
        features = np.empty((len(raw), len(self.median)))
        _scale(logs, raw, np.array(self.median), np.array(self.spread), self.clip, np.array(weight), features)
        return features


def fit(raw: Floats, ratios: int, clip: float = CLIP) -> Scaler:
    """A scaler, without weights, from the rows (n, 2R + L) of n >= 1 people."""
    prior, strength = [], []
    for i in range(ratios):
        numerator, denominator = raw[:, i], raw[:, ratios + i]
        total = float(denominator.sum())
        rate = float(numerator.sum()) / total if total > 0 else 0.0
        prior.append(rate)
        strength.append(_prior_strength(numerator, denominator, rate))
    columns = np.hstack((_log_ratios(raw, prior, strength), raw[:, 2 * ratios :]))
    median, spread = [], []
    for column in np.ascontiguousarray(columns.T):
        low, middle, high = np.quantile(column, [0.25, 0.5, 0.75])
        deviation = float(column.std())
        # a column that is the same for three in four rows has no middle half: it is scaled by its deviation
        width = max(float(high - low) / SIGMAS_OF_MIDDLE_HALF, deviation)
        median.append(float(middle))
        spread.append(width if width > 1e-9 else 1.0)
    return Scaler(prior, strength, median, spread, clip)


def weigh(scaler: Scaler, raw: Floats, pairs: float, change: Floats) -> Scaler:
    """The scaler with weights: the part of each feature's variance over people that lies between them and does not come
    and go within one. What comes and goes is no kind of shopper: this is the intraclass correlation (Fisher 1925).

    raw (n, 2R + L): one row a person. change (F,): sum over `pairs` pairs of rows of one person, days apart, of half
    the squared difference in scaled units.
    """
    variance = scaler.scaled(raw).var(0)
    within = change / max(pairs, 1.0)
    lasting = np.clip(1.0 - within / np.where(variance > 0, variance, 1.0), 0.0, 1.0)
    weight = (pairs * lasting + FULL_WEIGHT_PAIRS) / (pairs + FULL_WEIGHT_PAIRS)
    return msgspec.structs.replace(scaler, weight=weight.tolist())


def blend(old: Scaler, new: Scaler, share: float) -> Scaler:
    """A scaler on the way from one to another: share 0 is the old one, 1 the new one."""
    if share >= 1.0:
        return new

    def between(a: list[float], b: list[float]) -> list[float]:
        return [x + share * (y - x) for x, y in zip(a, b, strict=True)]

    return Scaler(
        prior=between(old.prior, new.prior),
        strength=between(old.strength, new.strength),
        median=between(old.median, new.median),
        spread=between(old.spread, new.spread),
        clip=new.clip,
        weight=between(old.weight, new.weight),
    )


def _prior_strength(numerator: Floats, denominator: Floats, rate: float) -> float:
    """How many events the prior counts for, by moments: the ratio's variance between shoppers against what chance alone
    would give."""
    counted = denominator > 0
    if rate <= 0 or counted.sum() < FEWEST_RATIOS:
        return STRENGTH_BOUNDS[1]
    ratio = numerator[counted] / denominator[counted]
    variance = float(ratio.var())
    by_chance = rate * float((1.0 / denominator[counted]).mean())  # Poisson
    true_variance = variance - by_chance
    return float(np.clip(rate / true_variance if true_variance > 0 else STRENGTH_BOUNDS[1], *STRENGTH_BOUNDS))


def _log_ratios(raw: Floats, prior: list[float], strength: list[float]) -> Floats:
    """The logarithms of shrunken ratios (n, R)."""
    ratios = np.empty((len(raw), len(prior)))
    _shrink(raw, np.multiply(prior, strength), np.array(strength), ratios)
    # numpy's logarithm of many numbers, which may differ in the last bit from that of one number
    return np.log1p(ratios, out=ratios)


@compiled
def _shrink(raw: Floats, events: Floats, strength: Floats, ratios: Floats) -> None:
    """Set ratios (n, R) to the shrunken ones; events (R,): what the prior adds to a numerator."""
    count = len(strength)
    for row in range(len(raw)):
        for i in range(count):
            ratios[row, i] = (raw[row, i] + events[i]) / (raw[row, count + i] + strength[i])


@compiled
def _scale(
    logs: Floats, raw: Floats, median: Floats, spread: Floats, clip: float, weight: Floats, features: Floats
) -> None:
    """Set features (n, F) to the scaled logarithms of ratios (n, R) and plain columns, on the grid; weight (F,), or
    empty."""
    ratios = logs.shape[1]
    for row in range(len(features)):
        for i in range(features.shape[1]):
            value = logs[row, i] if i < ratios else raw[row, ratios + i]
            value = (value - median[i]) / spread[i]
            value = min(max(value, -clip), clip)
            if len(weight):
                value *= weight[i]
            features[row, i] = np.rint(value * GRID) / GRID
