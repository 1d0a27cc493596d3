"""Random events for the loop over a user's history."""

from __future__ import annotations

import numpy as np

from state import history
from state.layout import NEVER, Ints


def random_events(rng: np.random.Generator, time: Ints, types: Ints) -> history.Events:
    """Events of given times (n,), ms, and types (n,), codes: no repeats, and no watermark that makes one late."""
    n = len(time)
    return history.Events(
        time=time,
        watermark=np.full(n, NEVER),
        type=types.astype(np.int8),
        amount=rng.integers(0, 1000, n),
        quantity=rng.integers(-1, 4, n),
        event_id=np.zeros(n, np.uint64),
        session=rng.integers(0, 12, n).astype(np.uint64),
        order=rng.integers(0, 12, n).astype(np.uint64),
        category=rng.integers(0, 7, n).astype(np.uint32),
        brand=rng.integers(0, 7, n).astype(np.uint32),
        place=rng.integers(0, 3, (n, 3)).astype(np.uint32),
        block=time // 10_800_000 % 8,
        ordinal=np.arange(n),
    )
