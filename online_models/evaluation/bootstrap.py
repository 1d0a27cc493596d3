"""Intervals by resampling users, and the area under the ROC curve.

A user's rows stand and fall together, so users are drawn, not rows (cluster bootstrap: Field and Welsh 2007). The same
seed gives the same draws for whatever is compared, which makes differences paired.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats
from online_models.training_rows import Ints

DRAWS = 1_000
LEVEL = 0.95


class Interval(msgspec.Struct, frozen=True):
    """A figure and its bootstrap interval (percentiles)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(value: float, drawn: Floats, level: float = LEVEL) -> Interval:
    """drawn (d,): the figure in each resample; those in which it does not exist (nan) are left out."""
    there = drawn[~np.isnan(drawn)]
    if not len(there):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(there, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def resamples(users: int, draws: int, seed: int) -> Iterator[Ints]:
    """How often each of the users is in each resample, (users,)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    for _ in range(draws):
        yield np.bincount(rng.integers(0, users, users), minlength=users)


def mean_by_user(user: Ints, values: Floats, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> list[Interval]:
    """Mean of each column of values (n, c), n >= 1, with the interval from resampling users; user (n,): 0 to u - 1.

    Sums are in one fixed order: the same bytes wherever it is computed.
    """
    users = int(user.max()) + 1
    order = np.argsort(user, kind="stable")
    count = np.bincount(user, minlength=users)
    end = np.cumsum(count)
    totals = []
    for column in np.ascontiguousarray(values.T):
        total = np.concatenate(([0.0], np.cumsum(column[order])))
        totals.append(total[end] - total[end - count])
    drawn = np.empty((len(totals), draws))
    for d, times in enumerate(resamples(users, draws, seed)):
        rows = int(np.cumsum(times * count)[-1])
        for c, of_user in enumerate(totals):
            drawn[c, d] = np.cumsum(times * of_user)[-1] / rows if rows else np.nan
    found = [float(np.cumsum(of_user)[-1]) / len(user) for of_user in totals]
    return [interval(value, line, level) for value, line in zip(found, drawn, strict=True)]


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
