"""Nearest centres in one fixed order of operations a line, whatever the batch: no BLAS, no pairwise sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BLOCK = 4096  # lines at a time, so that the columns stay in the processor's cache


def distances(lines: Floats, centres: Floats) -> Floats:
    """Squared distances (k, n) of lines (n, F) to centres (k, F), k >= 1."""
    out = np.zeros((len(centres), len(lines)))
    for a in range(0, len(lines), BLOCK):
        columns = np.ascontiguousarray(lines[a : a + BLOCK].T)
        for distance, centre in zip(out[:, a : a + BLOCK], centres, strict=True):
            for column, at in zip(columns, centre, strict=True):
                difference = column - at
                difference *= difference
                distance += difference
    return out


def nearest(lines: Floats, centres: Floats) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats, Floats]:
    """Nearest centre, runner-up and their squared distances, each (n,); ties go to the lower index.

    lines (n, F), centres (k, F), k >= 1; with one centre it is its own runner-up.
    """
    distance = distances(lines, centres)
    line = np.arange(len(lines))
    first = distance.argmin(0)
    best = distance[first, line]
    if len(centres) == 1:
        return first.astype(np.int32), first.astype(np.int32), best, best.copy()
    distance[first, line] = np.inf
    second = distance.argmin(0)
    return first.astype(np.int32), second.astype(np.int32), best, distance[second, line]
