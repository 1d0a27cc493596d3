"""Rows of `training-rows`: what the learner learns from, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats

Ints = NDArray[np.int64]
ROW, OUTCOME, DAY = range(3)  # learned from; a cart or a purchase; a new user a day after the first event
USER = np.dtype("V16")  # a pseudonym


@dataclass(frozen=True, slots=True)
class Rows:
    """n rows in log order."""

    offset: Ints
    now: Ints  # ms: as of when
    kind: NDArray[np.int8]
    user: NDArray[np.void]  # USER
    born: Ints  # ms: the user's first event, floored to five minutes; 0: not known
    carts: Ints  # lifetime totals, this event included
    orders: Ints
    sessions: Ints
    raw: Floats  # (n, 2R + L), as state/vector.py makes them

    def __len__(self) -> int:
        return len(self.offset)

    def take(self, at: Ints | slice | NDArray[np.bool_]) -> Rows:
        return Rows(**{one.name: getattr(self, one.name)[at] for one in fields(self)})


def join(parts: list[Rows]) -> Rows:
    """Parts, at least one, as a whole."""
    return Rows(**{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Rows)})
