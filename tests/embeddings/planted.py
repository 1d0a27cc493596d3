"""Kinds of shopper that an autoencoder can find."""

from __future__ import annotations

import numpy as np

from state import features

KINDS = 6
WIDTH = 2 * features.R + len(features.PLAIN)


def shoppers(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A raw matrix (n, 2R + L) and each line's kind; the kinds are the same whatever the seed."""
    kinds = np.random.default_rng(99)
    rates = kinds.gamma(1.0, 0.3, (KINDS, features.R))
    plain = kinds.uniform(0, 4, (KINDS, len(features.PLAIN)))
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, KINDS, n)
    below = rng.poisson(rng.gamma(3.0, 6.0, (n, 1)), (n, features.R))
    above = rng.poisson(rates[kind] * below)
    return np.c_[above, below, np.maximum(0, rng.normal(plain[kind], 0.7))].astype(float), kind
