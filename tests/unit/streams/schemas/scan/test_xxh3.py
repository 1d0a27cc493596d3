"""The compiled hash gives the numbers of the xxhash package."""

from __future__ import annotations

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

from streams.schemas.scan.words import PADDING, words_of
from streams.schemas.scan.xxh3 import LONGEST, xxh3_64


@pytest.mark.parametrize("before", [0, 5])
def test_each_size_from_each_place(before: int) -> None:
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore"):
        for size in range(1, LONGEST + 1):
            for text in (rng.bytes(size), bytes(size), b"\xff" * size):
                words = words_of(bytes(before) + text + b"behind"[: size % 7] + PADDING)
                assert int(xxh3_64(words, before, size)) == xxh3_64_intdigest(text), size
