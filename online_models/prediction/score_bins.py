"""Predictions by bins of their score, and how many came true: what calibrations are made of, and their figures."""

from __future__ import annotations

import msgspec
import numpy as np
from scipy.optimize import isotonic_regression

from online_models.distances import Floats
from online_models.prediction.calibration import Calibration

PRIOR_STRENGTH = 4.0  # predictions that a bin's prior counts for beside those that it has seen
LEAST = 0.5  # predictions, faded, that a bin needs
RISE = 1e-6  # at least, from bin to bin: level parts would make scores equal that are not
FADE = 20_000  # predictions after which all counts are halved: what is old says less
UNIT = 1 << 20  # sums are whole numbers of this part of a prediction: halved counts of few hits must not become none


class ScoreBins(msgspec.Struct):
    """Equal bins of [low, high]; sums (bins,) in parts of UNIT."""

    low: float
    high: float
    count: list[int]  # of predictions
    hits: list[int]  # of those that came true
    expected: list[int]  # of the probabilities that were predicted

    @classmethod
    def empty(cls, low: float, high: float, bins: int) -> ScoreBins:
        return cls(low, high, [0] * bins, [0] * bins, [0] * bins)

    def add(self, score: float, probability: float, hit: bool) -> None:
        """A prediction of this score, published as this probability, and whether it came true."""
        bins = len(self.count)
        chosen = min(bins - 1, max(0, int((score - self.low) / (self.high - self.low) * bins)))
        self.count[chosen] += UNIT
        self.hits[chosen] += UNIT * hit
        self.expected[chosen] += round(probability * UNIT)
        if self.seen >= FADE:
            self.fade()

    def fade(self) -> None:
        """Let what was seen so far say half as much."""
        for column in (self.count, self.hits, self.expected):
            column[:] = [number // 2 for number in column]

    def calibration(self, prior: Floats) -> Calibration:
        """The rising map from score to probability by isotonic regression (Barlow et al. 1972).

        prior (bins,), rising: what a score at the middle of each bin stands for while little was seen.
        """
        count, hits = np.array(self.count) / UNIT, np.array(self.hits) / UNIT
        filled = np.flatnonzero(count >= LEAST)
        rising = prior
        if len(filled):  # bins without predictions have no say: a line between the nearest that have some
            rate = (hits[filled] + PRIOR_STRENGTH * prior[filled]) / (count[filled] + PRIOR_STRENGTH)
            monotone = isotonic_regression(rate, weights=count[filled]).x
            rising = np.interp(self.middles, self.middles[filled], monotone)
        rising = rising + RISE * np.arange(len(prior))
        return Calibration(self.low, self.high, np.minimum(rising, 1.0).tolist())

    @property
    def seen(self) -> float:
        """Predictions, faded."""
        return sum(self.count) / UNIT

    @property
    def rate(self) -> float:
        """Share of them that came true, drawn a little toward a half."""
        return (sum(self.hits) + UNIT / 2) / (sum(self.count) + UNIT)

    @property
    def middles(self) -> Floats:
        """Of the bins (bins,)."""
        width = (self.high - self.low) / len(self.count)
        return np.array([self.low + (i + 0.5) * width for i in range(len(self.count))])

    def calibration_error(self) -> float:
        """Expected calibration error: how far what was predicted is off what came, averaged over predictions (Naeini et
        al. 2015)."""
        off = sum(abs(expected - hits) for expected, hits in zip(self.expected, self.hits, strict=True))
        return off / max(UNIT, sum(self.count))

    def auc(self) -> float:
        """Area under the ROC curve of the bins; 0.5 without both outcomes."""
        area, below = 0.0, 0.0
        for count, hits in zip(_predictions(self.count), _predictions(self.hits), strict=True):
            area += hits * (below + 0.5 * (count - hits))
            below += count - hits
        pairs = below * sum(_predictions(self.hits))
        return area / pairs if pairs else 0.5


def _predictions(column: list[int]) -> list[float]:
    return [number / UNIT for number in column]
