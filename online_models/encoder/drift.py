"""When a retrain is due: the encoder no longer knows the shoppers that come.

ADWIN (Bifet and Gavalda 2007, River's) keeps a window of as many values as have one mean, and drops the older part when
the newer one is of another. It watches two things: how badly rows come back from their embedding, and the share of rows
that come back worse than all but 1% of those of training.
"""

from __future__ import annotations

import numpy as np
from river.drift import ADWIN

from online_models.distances import Floats

DELTA = 1e-4  # ADWIN's: chance of a false alarm, were the values independent; River's own is 0.002
GRACE = 300  # rows before anything is said
WORSE = 1.1  # a mean that rose by less than a tenth is no reason


class Drift:
    """Fed with reconstruction errors in log order, under one encoder; another encoder starts another one.

    >>> drift = Drift(far=1.0)
    >>> drift.learn(np.full(2000, 0.1))
    >>> drift.due
    []
    >>> drift.learn(np.full(500, 0.4))
    >>> drift.due
    ['reconstruction error rose from 0.111 to 0.4']
    """

    def __init__(self, far: float, delta: float = DELTA) -> None:
        """far: the error beyond which a row is far off (of the encoder)."""
        self._far = max(far, 1e-9)
        self._means = {
            # an error is cut at twice far, so that a few wild rows do not make a mean
            "reconstruction error": _WatchedMean(delta, 2 * self._far),
            "share of far-off rows": _WatchedMean(delta, 1.0),
        }

    def learn(self, error: Floats) -> None:
        """Errors (n,) in order; however they are cut into calls."""
        for mean, values in zip(self._means.values(), (error, error > self._far), strict=True):
            mean.learn(values.astype(np.float64))

    @property
    def due(self) -> list[str]:
        """Reasons for a retrain, in words; none while the encoder knows those who come."""
        risen = ((name, mean) for name, mean in self._means.items() if mean.risen)
        return [f"{name} rose from {mean.before:.3g} to {mean.after:.3g}" for name, mean in risen]


class _WatchedMean:
    """The mean of values in [0, most]: whether it rose, and from what."""

    def __init__(self, delta: float, most: float) -> None:
        self._adwin = ADWIN(delta=delta, grace_period=GRACE)
        self._most = most
        self._before: float | None = None  # mean before the first of the rises that ADWIN saw

    def learn(self, values: Floats) -> None:
        for value in (np.minimum(values, self._most) / self._most).tolist():
            before = self._adwin.estimation
            self._adwin.update(value)
            if self._adwin.drift_detected:
                if self._adwin.estimation < before:
                    self._before = None
                elif self._before is None:
                    self._before = before

    @property
    def before(self) -> float:
        return (self._before or 0.0) * self._most

    @property
    def after(self) -> float:
        return float(self._adwin.estimation) * self._most

    @property
    def risen(self) -> bool:
        return self._before is not None and self.after > WORSE * self.before
