"""Texts as overlapping words: the eight bytes from each place on, so that a place needs one look."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from state.compiled import compiled

Words = NDArray[np.uint64]

PADDING = bytes(16)  # behind the bytes of which words are read: a loop may look at two words from the last byte on
_BYTE = np.uint64(0xFF)


def words_of(padded: bytes) -> Words:
    """The eight bytes from each place of a text on, as a little-endian number. padded: the text and PADDING.

    n bytes give n + 9 numbers. They are a view of the text, with a stride of one byte: nothing is copied.
    """
    return np.ndarray((len(padded) - 7,), np.uint64, padded, strides=(1,))


@compiled
def byte_at(words: Words, place: int) -> Any:
    return np.int64(words[place] & _BYTE)
