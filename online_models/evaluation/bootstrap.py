"""Intervals by resampling users.

A user's rows stand and fall together, so users are drawn, not rows (cluster bootstrap: Field and Welsh 2007). The same
seed gives the same draws for whatever is compared, which makes differences paired.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

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
    existing = drawn[~np.isnan(drawn)]
    if not len(existing):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(existing, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def resamples(users: int, draws: int, seed: int) -> Iterator[Ints]:
    """How often each of the users is in each resample, (users,)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    for _ in range(draws):
        yield np.bincount(rng.integers(0, users, users), minlength=users)


def mean_by_user(user: Ints, values: Floats, draws: int = DRAWS, seed: int = 0, level: float = LEVEL) -> list[Interval]:
    """Mean of each column of values (n, c), n >= 1, with the interval from resampling users; user (n,): 0 to u - 1.

    Sums are in one fixed order: the same bytes wherever it is computed.

    >>> mean_by_user(np.array([0, 0, 1]), np.array([[1.0], [2.0], [3.0]]), draws=50)
    [Interval(value=2.0, low=1.5, high=3.0)]
    """
    users = int(user.max()) + 1
    order = np.argsort(user, kind="stable")
    count = np.bincount(user, minlength=users)
    end = np.cumsum(count)
    sums_by_user = []
    for column in np.ascontiguousarray(values.T):
        running = np.concatenate(([0.0], np.cumsum(column[order])))
        sums_by_user.append(running[end] - running[end - count])
    drawn = np.empty((len(sums_by_user), draws))
    for draw, times in enumerate(resamples(users, draws, seed)):
        rows = int(np.cumsum(times * count)[-1])
        for column_number, sums in enumerate(sums_by_user):
            drawn[column_number, draw] = np.cumsum(times * sums)[-1] / rows if rows else np.nan
    means = [float(np.cumsum(sums)[-1]) / len(user) for sums in sums_by_user]
    return [interval(value, of_column, level) for value, of_column in zip(means, drawn, strict=True)]
