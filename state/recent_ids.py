"""Which ids are new: a row remembers the last few of each kind (event ids, sessions, orders)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.compiled import compiled

NO_ID = np.uint64(0)


@compiled
def remember(recent: NDArray[np.uint64], ident: np.uint64) -> bool:
    """Whether an id is not among the recent ones; a new id is then put in front, and the oldest is dropped.

    recent (K,): newest first, changed in place. NO_ID is never new. An id that is seen again keeps its place.

    >>> recent = np.array([7, 0], np.uint64)
    >>> [remember(recent, np.uint64(ident)) for ident in (7, 8, 8)], recent.tolist()
    ([False, True, False], [8, 7])
    """
    if ident == NO_ID:
        return False
    for known in recent:
        if known == ident:
            return False
    for i in range(len(recent) - 1, 0, -1):
        recent[i] = recent[i - 1]
    recent[0] = ident
    return True
