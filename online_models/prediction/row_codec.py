"""Raw rows as short bytes: most of their numbers are small whole ones."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from online_models.distances import Floats

_decode = msgspec.msgpack.Decoder(list[float]).decode


def encode_row(row: Floats) -> bytes:
    """A raw row (2R + L) as msgpack, whole numbers as such.

    >>> encode_row(np.array([1.0, 0.5])).hex()
    '9201cb3fe0000000000000'
    """
    return msgspec.msgpack.encode([int(value) if value.is_integer() else value for value in row.tolist()])


def decode_rows(encoded: Sequence[bytes]) -> Floats:
    """Rows (n, 2R + L), n >= 1."""
    return np.array([_decode(row) for row in encoded], np.float64)
