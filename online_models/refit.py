"""Centres from one version to the next, and ids that stay with their people.

A new scaler moves rows in ways that no map of the centres follows (priors and strengths change ratios row by row), so
each centre is carried over by the people that it has; then a few of Lloyd's rounds. Which new segment is which old one
is said by the people that they share, never by where centres lie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from online_models.kmeans import lloyd
from online_models.nearest import Floats, nearest
from online_models.rows import Ints

WARM = 6  # Lloyd's rounds
SAME = 0.25  # shared people among those of either, from which on a segment is still the same one


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


def match(before: Ints, after: Ints, old: int, new: int) -> Ints:
    """Which of `old` segments each of `new` ones is (new,), -1 none: by people, who were in `before` (n,) and would be
    in `after` (n,), so that as many as possible stay (Kuhn 1955). Segments without so many people in common as SAME of
    all that either has are not the same.
    """
    known = before >= 0
    shared = np.zeros((old, new))
    np.add.at(shared, (before[known], after[known]), 1.0)
    either = shared.sum(1)[:, None] + shared.sum(0)[None, :] - shared
    shared[shared < SAME * np.maximum(either, 1.0)] = 0.0
    out = np.full(new, -1, np.int64)
    for a, b in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        if shared[a, b] > 0:
            out[b] = a
    return out
