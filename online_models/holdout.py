"""The holdout: a fifth of the followed users, by pseudonym; their rows judge models, which are never made from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHARE = 51  # of 256


def in_holdout(user: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which of n pseudonyms (n,) of 16 bytes belong to the holdout: always the same ones."""
    last_byte: NDArray[np.uint8] = np.ascontiguousarray(user).view(np.uint8).reshape(-1, 16)[:, 15]
    return last_byte < SHARE
