"""Users whose rows models are judged by, and not made from: a fifth of those who are followed, by their pseudonym."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHARE = 51  # of 256


def held_out(user: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which of n pseudonyms (n,) of 16 bytes are held out: always the same ones."""
    last: NDArray[np.uint8] = np.ascontiguousarray(user).view(np.uint8).reshape(-1, 16)[:, 15]
    return last < SHARE
