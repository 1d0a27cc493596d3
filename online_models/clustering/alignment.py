"""An old and a new segmentation of the same people: which segment became which, and who would change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment

from online_models.distances import Floats
from online_models.training_rows import Ints


@dataclass(frozen=True, slots=True)
class Alignment:
    matrix: Ints  # (old, new) people in each pair of segments
    old_of: Ints  # (new,) the old segment that each new one continues; -1: none

    @property
    def churn(self) -> float:
        """Share of the people whose new segment is not the continuation of their old one; 0 without people."""
        people = int(self.matrix.sum())
        new = np.flatnonzero(self.old_of >= 0)
        staying = int(self.matrix[self.old_of[new], new].sum())
        return (people - staying) / people if people else 0.0


def align(old: Ints, new: Ints, old_count: int, new_count: int, least_overlap: float = 0.0) -> Alignment:
    """Match the segments (p,) of the same p people under an old and a new model, given as numbers from 0.

    Matched one to one so that as many people as possible stay (Hungarian assignment: Kuhn 1955). Two that share nobody,
    or less than the least overlap (share of all people that either has), are not matched.

    >>> align(np.array([0, 0, 1]), np.array([1, 1, 0]), 2, 3).old_of
    array([ 1,  0, -1])
    """
    matrix = np.bincount(old * new_count + new, minlength=old_count * new_count).reshape(old_count, new_count)
    either = matrix.sum(1)[:, None] + matrix.sum(0)[None, :] - matrix
    overlap = np.where(matrix < least_overlap * either, 0, matrix)
    before, after = linear_sum_assignment(overlap, maximize=True)
    old_of = np.full(new_count, -1, np.int64)
    shared = overlap[before, after] > 0
    old_of[after[shared]] = before[shared]
    return Alignment(matrix, old_of)


def procrustes(old: Floats, new: Floats) -> tuple[Floats, float]:
    """Rotation (D, D) that takes the new embedding (p, D) of some people onto their old one, both centred and of unit
    size, and the share of the old one's variance that it leaves unexplained, in [0, 1] (Schönemann 1966).

    An embedding of fewer dimensions is padded with zeros. Where all people lie on one point nothing is explained. It is
    computed by LAPACK, so its last bits are the processor's own: it is shown, and never part of a version's bytes.
    """
    width = max(old.shape[1], new.shape[1])
    to_old, to_new = (_normalised(np.pad(points, ((0, 0), (0, width - points.shape[1])))) for points in (old, new))
    rotation, scale = orthogonal_procrustes(to_new, to_old)
    return rotation, float(np.clip(1.0 - scale**2, 0.0, 1.0))


def _normalised(points: Floats) -> Floats:
    centred = points - points.mean(0)
    size = float(np.sqrt((centred**2).sum()))
    return centred / size if size > 0 else centred
