"""What a score is worth: hits by bins of the score, made a rising map from score to probability."""

from __future__ import annotations

import msgspec
import numpy as np
from scipy.optimize import isotonic_regression

from online_models.nearest import Floats

STRENGTH = 10.0  # predictions that a bin's expected probability counts for beside those that it has seen
FADE = 20_000  # predictions after which all counts are halved: what is old says less
GRID = 1 << 20  # sums of probabilities are whole numbers of this part


class Calibration(msgspec.Struct, frozen=True):
    """Probabilities at the middles of equal bins of [low, high], rising; between them lines, beyond them level."""

    low: float
    high: float
    value: list[float]

    def apply(self, score: Floats) -> Floats:
        """Probabilities (n,) of scores (n,), elementwise."""
        value = np.array(self.value)
        last = len(value) - 1
        place = np.clip((score - self.low) * (len(value) / (self.high - self.low)) - 0.5, 0.0, last)
        below = np.minimum(place.astype(np.int64), max(0, last - 1))
        return value[below] + (place - below) * (value[np.minimum(below + 1, last)] - value[below])


class Tally(msgspec.Struct):
    """Predictions by bin of their score, and how many came true; all in whole numbers."""

    low: float
    high: float
    count: list[int]
    hits: list[int]
    expected: list[int]  # sum of the probabilities that were told, in parts of GRID

    @classmethod
    def of(cls, low: float, high: float, bins: int) -> Tally:
        return cls(low, high, [0] * bins, [0] * bins, [0] * bins)

    def add(self, score: float, told: float, hit: bool) -> None:
        """A prediction of this score, told as this probability, and whether it came true."""
        bins = len(self.count)
        at = min(bins - 1, max(0, int((score - self.low) / (self.high - self.low) * bins)))
        self.count[at] += 1
        self.hits[at] += hit
        self.expected[at] += round(told * GRID)
        if sum(self.count) >= FADE:
            for column in (self.count, self.hits, self.expected):
                column[:] = [number // 2 for number in column]

    def calibration(self, own: Floats) -> Calibration:
        """own (bins,): what a score at the middle of each bin stands for by itself, where nothing was seen."""
        count = np.array(self.count, np.float64)
        seen = (np.array(self.hits) + STRENGTH * own) / (count + STRENGTH)
        rising = isotonic_regression(seen, weights=count + STRENGTH).x
        return Calibration(self.low, self.high, rising.tolist())

    @property
    def middles(self) -> Floats:
        return self.low + (np.arange(len(self.count)) + 0.5) * ((self.high - self.low) / len(self.count))

    def error(self) -> float:
        """Expected calibration error: how far what was told is off what came, averaged over predictions (Naeini et
        al. 2015)."""
        off = sum(abs(told / GRID - hit) for told, hit in zip(self.expected, self.hits, strict=True))
        return off / max(1, sum(self.count))

    def ratio(self) -> float:
        """What was told in all by what came in all; 1.0 where nothing came."""
        hits = sum(self.hits)
        return sum(self.expected) / GRID / hits if hits else 1.0

    def auc(self) -> float:
        """Area under the ROC curve of the bins; 0.5 without both outcomes."""
        area, below = 0.0, 0
        for count, hit in zip(self.count, self.hits, strict=True):
            area += hit * (below + 0.5 * (count - hit))
            below += count - hit
        pairs = below * sum(self.hits)
        return area / pairs if pairs else 0.5
