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
        stay = int(self.matrix[self.old_of[new], new].sum())
        return (people - stay) / people if people else 0.0


def align(old: Ints, new: Ints, old_count: int, new_count: int, same: float = 0.0) -> Alignment:
    """Segments (p,) of the same p people under an old and a new model, as numbers from 0.

    Matched one to one so that as many people as possible stay (Hungarian assignment: Kuhn 1955). Two that share nobody,
    or less than a share `same` of all that either has, are not matched.
    """
    matrix = np.bincount(old * new_count + new, minlength=old_count * new_count).reshape(old_count, new_count)
    either = matrix.sum(1)[:, None] + matrix.sum(0)[None, :] - matrix
    alike = np.where(matrix < same * either, 0, matrix)
    before, after = linear_sum_assignment(alike, maximize=True)
    old_of = np.full(new_count, -1, np.int64)
    shared = alike[before, after] > 0
    old_of[after[shared]] = before[shared]
    return Alignment(matrix, old_of)


def procrustes(old: Floats, new: Floats) -> tuple[Floats, float]:
    """Rotation (D, D) that takes the new embedding (p, D) of some people onto their old one, both centred and of unit
    size, and the share of the old one's variance that it leaves unexplained, in [0, 1] (Schönemann 1966).

    By LAPACK: a figure to look at and a start for centres, never part of a version's bytes. An embedding of fewer
    dimensions is padded with zeros. Where all people lie on one point nothing is explained.
    """
    width = max(old.shape[1], new.shape[1])
    a, b = (_normal(np.pad(one, ((0, 0), (0, width - one.shape[1])))) for one in (old, new))
    rotation, scale = orthogonal_procrustes(b, a)
    return rotation, float(np.clip(1.0 - scale**2, 0.0, 1.0))


def _normal(lines: Floats) -> Floats:
    centred = lines - lines.mean(0)
    size = float(np.sqrt((centred**2).sum()))
    return centred / size if size > 0 else centred
