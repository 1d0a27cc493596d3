"""Raw lines as short bytes: most of their numbers are small whole ones."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from online_models.distances import Floats

_decode = msgspec.msgpack.Decoder(list[float]).decode


def pack(line: Floats) -> bytes:
    """A raw line (2R + L): msgpack, whole numbers as such."""
    return msgspec.msgpack.encode([int(value) if value.is_integer() else value for value in line.tolist()])


def unpack(packed: Sequence[bytes]) -> Floats:
    """Lines (n, 2R + L), at least one."""
    return np.array([_decode(one) for one in packed], np.float64)
