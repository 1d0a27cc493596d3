"""The area under the ROC curve, within strata and by resampling users: an oracle of tests, a measure of benches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats
from online_models.evaluation.bootstrap import DRAWS, resamples
from online_models.training_rows import Ints


class Auc:
    """Area under the ROC curve of n scores: the share of pairs (one with the outcome, one without) in which the one
    with it has the larger score, ties half (Hanley and McNeil 1982). Pairs lie within one stratum.

    >>> Auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True])).value()
    0.875
    """

    def __init__(self, score: Floats, outcome: NDArray[np.bool_], stratum: Ints | None = None) -> None:
        """stratum (n,): e.g. the time as of which a score was given; None: all are one."""
        n = len(score)
        self._outcome = outcome
        self._stratum = np.unique(np.zeros(n, np.int64) if stratum is None else stratum, return_inverse=True)[1]
        rank = np.unique(score, return_inverse=True)[1]
        key, self._group = np.unique(self._stratum * (n + 1) + rank, return_inverse=True)
        of = key // (n + 1)
        self._first = np.searchsorted(of, of)  # the first group of each group's stratum

    def value(self, times: Ints | None = None) -> float:
        """The area where row i counts times[i] times; nan where there is no pair."""
        n = len(self._group)
        weight = np.ones(n) if times is None else times.astype(np.float64)
        size = len(self._first)
        with_it = np.bincount(self._group, weight * self._outcome, size)
        without = np.bincount(self._group, weight * ~self._outcome, size)
        below = np.concatenate(([0.0], np.cumsum(without)))
        won = with_it * (below[:-1] - below[self._first] + 0.5 * without)
        strata = int(self._stratum.max(initial=-1)) + 1
        pairs = np.bincount(self._stratum, weight * self._outcome, strata) * np.bincount(
            self._stratum, weight * ~self._outcome, strata
        )
        total = float(pairs.sum())
        return float(won.sum()) / total if total else float("nan")

    def drawn(self, user: Ints, draws: int = DRAWS, seed: int = 0) -> Floats:
        """The area in each resample of users, (draws,); user (n,): 0 to u - 1."""
        users = int(user.max()) + 1
        return np.array([self.value(times[user]) for times in resamples(users, draws, seed)])
