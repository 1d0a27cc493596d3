"""Nearest centres in one fixed order of operations a line, whatever the batch: no BLAS, no pairwise sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BLOCK = 4096  # lines at a time, so that the columns stay in the processor's cache


def nearest(lines: Floats, centres: Floats) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats, Floats]:
    """Nearest centre, runner-up and their squared distances, each (n,); ties go to the lower index.

    lines (n, F), centres (k, F), k >= 1; with one centre it is its own runner-up.
    """
    n = len(lines)
    first, second = np.zeros(n, np.int32), np.zeros(n, np.int32)
    best, next_best = np.full(n, np.inf), np.full(n, np.inf)
    for a in range(0, n, BLOCK):
        columns = np.ascontiguousarray(lines[a : a + BLOCK].T)
        out = slice(a, a + columns.shape[1])
        f, s, d1, d2 = first[out], second[out], best[out], next_best[out]
        for k, centre in enumerate(centres):
            distance = np.zeros(columns.shape[1])
            for column, at in zip(columns, centre, strict=True):
                difference = column - at
                difference *= difference
                distance += difference
            nearer = distance < d1
            closer = ~nearer & (distance < d2)
            s[nearer], d2[nearer] = f[nearer], d1[nearer]
            s[closer], d2[closer] = k, distance[closer]
            f[nearer], d1[nearer] = k, distance[nearer]
    if len(centres) == 1:
        return first, first.copy(), best, best.copy()
    return first, second, best, next_best
