"""How good a segmentation is: what the rates of its segments predict, and how far its segments lie apart.

Sums are in one fixed order, so that a figure has the same bytes wherever it is computed.
"""

from __future__ import annotations

import numpy as np

from online_models.distances import Floats, nearest
from online_models.outcomes import HORIZON, Bools
from online_models.training_rows import Ints

SMOOTHING = 20.0  # rows that the shop's rate counts for in that of a segment


def known_before(now: Ints, horizon: int = HORIZON) -> Ints:
    """Of how many of n rows, in any order, the outcome was known at the time (n,) of each: those more than the horizon
    (ms) before it.

    >>> known_before(np.array([0, 5, 20]), horizon=10)
    array([0, 0, 2])
    """
    return np.searchsorted(np.sort(now), now - horizon)


def rates(now: Ints, segment: Ints, outcome: Bools, horizon: int = HORIZON, smoothing: float = SMOOTHING) -> Floats:
    """For each of n rows, in any order, the rate of its segment among the rows whose outcome was known then, drawn
    toward the rate of all of those; in (0, 1)."""
    order = np.argsort(now, kind="stable")
    known = np.searchsorted(now[order], now - horizon)
    base = (_running_total(outcome[order])[known] + 0.5) / (known + 1.0)
    rate = np.zeros(len(now))
    for number in np.unique(segment):
        inside = order[segment[order] == number]
        rows = np.flatnonzero(segment == number)
        count = np.searchsorted(now[inside], now[rows] - horizon)
        rate[rows] = (_running_total(outcome[inside])[count] + smoothing * base[rows]) / (count + smoothing)
    return rate


def _running_total(outcome: Bools) -> Ints:
    """(n + 1,): of the first 0, 1, ... n."""
    return np.concatenate(([0], np.cumsum(outcome)))


def log_loss(rate: Floats, outcome: Bools) -> Floats:
    """Of each row (n,), in nats."""
    return -np.log(np.where(outcome, rate, 1.0 - rate))


def silhouette(points: Floats, centres: Floats, centre: Ints) -> Floats:
    """Simplified silhouette of each point (n,), in [-1, 1]: by how much its own centre is nearer than the nearest other
    one (Hruschka, de Castro and Campello 2004). Negative where another is nearer; 0 with one centre.

    points (n, D), centres (k, D), centre (n,): index of the own one.
    """
    if len(centres) < 2:
        return np.zeros(len(points))
    first, _, to_first, to_second = nearest(points, centres)
    squared = np.zeros(len(points))
    for column, coordinate in zip(np.ascontiguousarray(points.T), np.ascontiguousarray(centres.T), strict=True):
        difference = column - coordinate[centre]
        squared += difference * difference
    own, other = np.sqrt(squared), np.sqrt(np.where(first == centre, to_second, to_first))
    larger = np.maximum(own, other)
    return np.where(larger > 0, (other - own) / np.where(larger > 0, larger, 1.0), 0.0)
