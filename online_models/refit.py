"""Centres for a new scaling, with ids that stay with their people.

A new scaler moves rows in ways that no map of the centres follows (priors and strengths change ratios row by row), so
the centres are carried over by the rows that they had: the mean of each one's rows in the new scaling, then a few of
Lloyd's rounds. A cold solution is taken only where it is clearly better, its ids matched to the old ones by the rows
that they share (measured: as good as batch k-means at every moment, with a fraction of its churn).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from online_models.kmeans import lloyd, plus_plus
from online_models.nearest import Floats, nearest

WARM, COLD = 6, 15  # Lloyd's rounds
STARTS = 2
BETTER = 0.9  # of the warm error, below which a cold solution is taken


def refit(features: Floats, before: NDArray[np.int32], old: Floats, seed: int) -> Floats:
    """Centres (k, F) for rows (n, F) that had been assigned to `before` (n,) under centres `old` (k, F)."""
    k = len(old)
    warm = _carried(features, before, old)
    warm = lloyd(features, warm, WARM)
    best, error = warm, BETTER * _error(features, warm)
    for start in range(STARTS):
        cold = lloyd(features, plus_plus(features, k, seed * STARTS + start), COLD)
        found = _error(features, cold)
        if found < error:
            best, error = cold, found
    if best is warm:
        return warm
    label = nearest(features, best)[0]
    shared = np.zeros((k, k))
    np.add.at(shared, (before, label), 1.0)
    new_of = linear_sum_assignment(shared, maximize=True)[1]
    return best[new_of]


def means(features: Floats, label: NDArray[np.integer], other: Floats) -> Floats:
    """Mean (k, F) of the rows (n, F) of each label (n,); `other` (k, F) where there are none."""
    count = np.bincount(label, minlength=len(other))
    order = np.argsort(label, kind="stable")
    total = np.zeros((len(features) + 1, features.shape[1]))
    np.cumsum(features[order], axis=0, out=total[1:])
    end = np.cumsum(count)
    held = np.flatnonzero(count)
    out = np.array(other)
    out[held] = (total[end[held]] - total[(end - count)[held]]) / count[held, None]
    return out


def _carried(features: Floats, label: NDArray[np.int32], old: Floats) -> Floats:
    """Mean of each centre's rows; one without rows starts at the row that is farthest from all the others."""
    count = np.bincount(label, minlength=len(old))
    held, out = np.flatnonzero(count), means(features, label, np.zeros((len(old), features.shape[1])))
    for empty in np.flatnonzero(count == 0).tolist():
        out[empty] = features[int(nearest(features, out[held])[2].argmax())]
        held = np.append(held, empty)
    return out


def _error(features: Floats, centres: Floats) -> float:
    return float(np.cumsum(nearest(features, centres)[2])[-1]) / len(features)
