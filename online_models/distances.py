"""Distances and means whose sums are taken in one fixed order, whatever the batch: no BLAS, no pairwise sums.

A point's distances have the same bits alone, in any batch and on any processor. Versions and segments depend on that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.compiled import compiled

Floats = NDArray[np.float64]


def distances(points: Floats, centres: Floats) -> Floats:
    """Squared Euclidean distances (k, n) of points (n, D) to centres (k, D), k >= 1.

    >>> distances(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 0.0]]))
    array([[ 0., 25.]])
    """
    squared = np.empty((len(centres), len(points)))
    _distances(np.ascontiguousarray(points), centre_columns(centres), np.empty(len(centres)), squared)
    return squared


def centre_columns(centres: Floats) -> Floats:
    """The columns (D, k) of centres (k, D): each sum keeps its order, and the processor takes several of them at a
    time."""
    return np.ascontiguousarray(centres.T)


@compiled
def _distances(points: Floats, columns: Floats, total: Floats, squared: Floats) -> None:
    for point in range(len(points)):
        distances_of(points, point, columns, total)
        for centre in range(len(total)):
            squared[centre, point] = total[centre]


@compiled
def distances_of(points: Floats, point: int, columns: Floats, total: Floats) -> None:
    """Set total (k,) to the squared distances of one of the points (n, D) to centres; columns (D, k): of these."""
    total[:] = 0.0
    for i in range(len(columns)):
        for centre in range(len(total)):
            difference = points[point, i] - columns[i, centre]
            total[centre] += difference * difference


def nearest(points: Floats, centres: Floats) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats, Floats]:
    """The nearest centre, the runner-up and the squared distances to both, each (n,); ties go to the lower index.

    points (n, D), centres (k, D), k >= 1; with one centre it is its own runner-up.
    """
    squared = distances(points, centres)
    every = np.arange(len(points))
    first = squared.argmin(0)
    to_first = squared[first, every]
    if len(centres) == 1:
        return first.astype(np.int32), first.astype(np.int32), to_first, to_first.copy()
    squared[first, every] = np.inf
    second = squared.argmin(0)
    return first.astype(np.int32), second.astype(np.int32), to_first, squared[second, every]


def mean(column: Floats) -> float:
    """Mean of values (n,), summed from the first to the last; nan of none."""
    return float(np.cumsum(column)[-1]) / len(column) if len(column) else float("nan")
