"""How good a segmentation is: what the rates of its segments foretell, and how far its segments lie apart.

Sums are in one fixed order, so that a figure has the same bytes wherever it is computed.
"""

from __future__ import annotations

import numpy as np

from online_models.distances import Floats, nearest
from online_models.outcomes import HORIZON, Bools
from online_models.training_rows import Ints

SMOOTHING = 20.0  # rows that the shop's rate counts for in that of a segment


def known(now: Ints, horizon: int = HORIZON) -> Ints:
    """Of n rows in any order, of how many the outcome was known at the time of each: those more than the horizon (ms)
    before it."""
    return np.searchsorted(np.sort(now), now - horizon)


def rates(
    now: Ints, segment: Ints, outcome: Bools, horizon: int = HORIZON, smoothing: float = SMOOTHING
) -> Floats:  # fmt: skip
    """For each of n rows, in any order, the rate of its segment among the rows whose outcome was known then, drawn
    toward the rate of all of those; in (0, 1)."""
    order = np.argsort(now, kind="stable")
    before = np.searchsorted(now[order], now - horizon)
    base = (_upto(outcome[order])[before] + 0.5) / (before + 1.0)
    out = np.zeros(len(now))
    for one in np.unique(segment):
        mine = order[segment[order] == one]
        asked = np.flatnonzero(segment == one)
        count = np.searchsorted(now[mine], now[asked] - horizon)
        out[asked] = (_upto(outcome[mine])[count] + smoothing * base[asked]) / (count + smoothing)
    return out


def _upto(outcome: Bools) -> Ints:
    return np.concatenate(([0], np.cumsum(outcome)))


def log_loss(rate: Floats, outcome: Bools) -> Floats:
    """Of each row, nats."""
    return -np.log(np.where(outcome, rate, 1.0 - rate))


def silhouette(lines: Floats, centres: Floats, segment: Ints) -> Floats:
    """Simplified silhouette of each line (n,), in [-1, 1]: by how much its own centre is nearer than the nearest other
    one (Hruschka, de Castro and Campello 2004). Negative where another is nearer; 0 with one centre.

    lines (n, D), centres (k, D), segment (n,): index of the own centre.
    """
    if len(centres) < 2:
        return np.zeros(len(lines))
    first, _, best, next_best = nearest(lines, centres)
    squared = np.zeros(len(lines))
    for column, at in zip(np.ascontiguousarray(lines.T), np.ascontiguousarray(centres.T), strict=True):
        difference = column - at[segment]
        squared += difference * difference
    own, other = np.sqrt(squared), np.sqrt(np.where(first == segment, next_best, best))
    larger = np.maximum(own, other)
    return np.where(larger > 0, (other - own) / np.where(larger > 0, larger, 1.0), 0.0)


def mean(column: Floats) -> float:
    """nan of none."""
    return float(np.cumsum(column)[-1]) / len(column) if len(column) else float("nan")
