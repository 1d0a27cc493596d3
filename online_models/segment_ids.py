"""Segments are named by ids that are never used again; centres are numbered by their place in a version."""

from __future__ import annotations

import numpy as np

from online_models.training_rows import Ints

NO_SEGMENT = -1  # of a person who is in no segment, or was not known yet


def centre_index(ids: list[int], segment: Ints) -> Ints:
    """The index (n,) of each segment's centre among ids (k,), -1 where there is none.

    >>> centre_index([7, 3], np.array([3, 7, 5]))
    array([ 1,  0, -1])
    """
    known = np.array(ids, np.int64)
    order = np.argsort(known)
    found = order[np.minimum(np.searchsorted(known, segment, sorter=order), len(ids) - 1)]
    return np.where(known[found] == segment, found, -1)
