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

WARM = 6  # Lloyd's rounds


def refit(lines: Floats, before: NDArray[np.integer], k: int) -> Floats:
    """Centres (k, D) for lines (n, D) in another space, of people who were at `before` (n,) of k centres."""
    return lloyd(lines, _carried(lines, before, k), WARM)


def _carried(lines: Floats, label: NDArray[np.integer], k: int) -> Floats:
    """Mean of each centre's people; one without starts at the line that is farthest from all the others."""
    out, count = means(lines, label, k)
    held = np.flatnonzero(count)
    for empty in np.flatnonzero(count == 0).tolist():
        out[empty] = lines[int(nearest(lines, out[held])[2].argmax())]
        held = np.append(held, empty)
    return out


def means(lines: Floats, label: NDArray[np.integer], k: int) -> tuple[Floats, Ints]:
    """Mean line (k, D) of each label and how many there are of it (k,); labels below 0 are nobody's."""
    known = np.flatnonzero(label >= 0)
    known = known[np.argsort(label[known], kind="stable")]
    count = np.bincount(label[known], minlength=k)
    total = np.zeros((len(known) + 1, lines.shape[1]))
    np.cumsum(lines[known], axis=0, out=total[1:])
    end = np.cumsum(count)
    return (total[end] - total[end - count]) / np.maximum(count, 1)[:, None], count
