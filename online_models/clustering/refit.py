"""Centres that go with their people.

A new scaler moves rows in ways that no map of the centres follows (priors and strengths change ratios row by row), so
each centre is carried over by the people that it has; then a few of Lloyd's rounds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from online_models.clustering.kmeans import lloyd
from online_models.distances import Floats, nearest
from online_models.training_rows import Ints

REFIT_ROUNDS = 6  # of Lloyd's


def refit(points: Floats, label: NDArray[np.integer], k: int) -> Floats:
    """Centres (k, D) for points (n, D) in another space, of people who were at `label` (n,) of k centres."""
    return lloyd(points, _carried(points, label, k), REFIT_ROUNDS)


def _carried(points: Floats, label: NDArray[np.integer], k: int) -> Floats:
    """Mean of each centre's people; one without starts at the point that is farthest from all the others."""
    centres, count = label_means(points, label, k)
    placed = np.flatnonzero(count)
    for empty in np.flatnonzero(count == 0).tolist():
        centres[empty] = points[int(nearest(points, centres[placed])[2].argmax())]
        placed = np.append(placed, empty)
    return centres


def label_means(points: Floats, label: NDArray[np.integer], k: int) -> tuple[Floats, Ints]:
    """Mean point (k, D) of each label and the number of its points (k,); labels below 0 are nobody's.

    >>> label_means(np.array([[1.0], [3.0], [9.0]]), np.array([0, 0, -1]), 2)
    (array([[2.],
           [0.]]), array([2, 0]))
    """
    known = np.flatnonzero(label >= 0)
    known = known[np.argsort(label[known], kind="stable")]
    count = np.bincount(label[known], minlength=k)
    # running sums, so that each mean is summed in the points' order
    running = np.zeros((len(known) + 1, points.shape[1]))
    np.cumsum(points[known], axis=0, out=running[1:])
    end = np.cumsum(count)
    return (running[end] - running[end - count]) / np.maximum(count, 1)[:, None], count
