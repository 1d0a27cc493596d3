"""What a score is worth: a rising map from score to probability."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import numpy as np

from online_models.distances import Floats


class Calibration(msgspec.Struct, frozen=True):
    """Probabilities at the middles of equal bins of [low, high], rising; between them a straight line, beyond the first
    and the last level.

    >>> Calibration(0.0, 1.0, [0.2, 0.6]).apply(np.array([0.0, 0.25, 0.5, 0.75])).tolist()
    [0.2, 0.2, 0.4, 0.6]
    """

    low: float
    high: float
    value: list[float]

    def apply(self, score: Floats) -> Floats:
        """Probabilities (n,) of scores (n,), elementwise."""
        value = np.array(self.value)
        last = len(value) - 1
        place = np.clip((score - self.low) * (len(value) / (self.high - self.low)) - 0.5, 0.0, last)
        below = np.minimum(place.astype(np.int64), max(0, last - 1))
        rise = value[np.minimum(below + 1, last)] - value[below]
        probability: Floats = value[below] + (place - below) * rise
        return probability

    def check(self, what: str) -> None:
        """ValueError, with the reason, where it is not such a map; what: whose it is, for the message."""
        rising = [0.0, *self.value, 1.0]
        if not self.value or not all(a <= b for a, b in pairwise(rising)):  # nan is never at most another
            raise ValueError(f"{what}: the probabilities do not rise from 0 to 1")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{what}: scores from {self.low} to {self.high}")
