"""Predictions by bins of their score, and how many came true: what a calibration is made of, and figures."""

from __future__ import annotations

import msgspec
import numpy as np
from scipy.optimize import isotonic_regression

from online_models.distances import Floats
from online_models.prediction.calibration import Calibration

STRENGTH = 4.0  # predictions that a bin's expected probability counts for beside those that it has seen
LEAST = 0.5  # predictions, faded, that a bin needs
RISE = 1e-6  # at least, from bin to bin: level parts would make scores equal that are not
FADE = 20_000  # predictions after which all counts are halved: what is old says less
GRID = 1 << 20  # all sums are whole numbers of this part: halved counts of few hits must not become none


class Tally(msgspec.Struct):
    """Predictions by bin of their score, and how many came true; all in whole numbers."""

    low: float
    high: float
    count: list[int]  # in parts of GRID, as all
    hits: list[int]
    expected: list[int]  # sum of the probabilities that were told

    @classmethod
    def of(cls, low: float, high: float, bins: int) -> Tally:
        return cls(low, high, [0] * bins, [0] * bins, [0] * bins)

    def add(self, score: float, told: float, hit: bool) -> None:
        """A prediction of this score, told as this probability, and whether it came true."""
        bins = len(self.count)
        at = min(bins - 1, max(0, int((score - self.low) / (self.high - self.low) * bins)))
        self.count[at] += GRID
        self.hits[at] += GRID * hit
        self.expected[at] += round(told * GRID)
        if self.seen >= FADE:
            self.fade()

    def fade(self) -> None:
        """Let what was seen so far say half as much."""
        for column in (self.count, self.hits, self.expected):
            column[:] = [number // 2 for number in column]

    def calibration(self, own: Floats) -> Calibration:
        """own (bins,), rising: what a score at the middle of each bin stands for while little was seen."""
        count, hits = np.array(self.count) / GRID, np.array(self.hits) / GRID
        at = np.flatnonzero(count >= LEAST)
        rising = own
        if len(at):  # bins without predictions have no say: a line from the nearest that have some
            seen = (hits[at] + STRENGTH * own[at]) / (count[at] + STRENGTH)
            rising = np.interp(self.middles, self.middles[at], isotonic_regression(seen, weights=count[at]).x)
        rising = rising + RISE * np.arange(len(own))
        return Calibration(self.low, self.high, np.minimum(rising, 1.0).tolist())

    @property
    def seen(self) -> float:
        """Predictions, faded."""
        return sum(self.count) / GRID

    @property
    def rate(self) -> float:
        """Share of them that came true, drawn a little toward a half."""
        return (sum(self.hits) + GRID / 2) / (sum(self.count) + GRID)

    @property
    def middles(self) -> Floats:
        width = (self.high - self.low) / len(self.count)
        return np.array([self.low + (i + 0.5) * width for i in range(len(self.count))])

    def error(self) -> float:
        """Expected calibration error: how far what was told is off what came, averaged over predictions (Naeini et
        al. 2015)."""
        off = sum(abs(told - hit) for told, hit in zip(self.expected, self.hits, strict=True))
        return off / max(GRID, sum(self.count))

    def auc(self) -> float:
        """Area under the ROC curve of the bins; 0.5 without both outcomes."""
        area, below = 0.0, 0.0
        for count, hit in zip(self._parts(self.count), self._parts(self.hits), strict=True):
            area += hit * (below + 0.5 * (count - hit))
            below += count - hit
        pairs = below * sum(self._parts(self.hits))
        return area / pairs if pairs else 0.5

    @staticmethod
    def _parts(column: list[int]) -> list[float]:
        return [number / GRID for number in column]
