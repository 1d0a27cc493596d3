"""What a score is worth: a rising map from score to probability."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import numpy as np

from online_models.distances import Floats


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
        found: Floats = value[below] + (place - below) * (value[np.minimum(below + 1, last)] - value[below])
        return found

    def check(self, what: str) -> None:
        """ValueError, with the reason, where it is not one."""
        rising = [0.0, *self.value, 1.0]
        if not self.value or not all(a <= b for a, b in pairwise(rising)):  # not a number is never at most another
            raise ValueError(f"{what}: the probabilities do not rise from 0 to 1")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{what}: scores from {self.low} to {self.high}")
