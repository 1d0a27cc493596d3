"""Training rows: which steps the learner sees, and their bytes.

At most one row a user and active hour: the event whose number within the hour is 1, 2, 4 or 8, as a hash of
user and hour says, so that short and long visits are both seen.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from state.fold import HOUR_MS, Steps
from state.rows import Ints

_HEAD = struct.Struct("<qI")  # as of (ms), layout of the raw matrix


def chosen(steps: Steps, birth: Ints) -> Ints:
    """Steps (indices) to send; birth (s,) of each step's row, which with the partition names the user."""
    hour = steps.now // HOUR_MS
    mixed = birth.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # splitmix64's constants
    mixed ^= hour.astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0x94D049BB133111EB)
    wanted = np.int64(1) << (mixed >> np.uint64(62)).astype(np.int64)
    return np.flatnonzero((steps.event >= 0) & (steps.ordinal == wanted))


def pseudonym(user: bytes, key: bytes) -> bytes:
    """Keyed hash of a user id, 16 bytes: the same user over time, and no way back without the key."""
    return hashlib.blake2b(user, key=key[:64], digest_size=16).digest()


def layout(names: Sequence[str]) -> int:
    """A number for the columns' names and order."""
    return int.from_bytes(hashlib.blake2b("\n".join(names).encode(), digest_size=4).digest(), "little")


def encode(now: int, columns: int, raw: NDArray[np.float64]) -> bytes:
    return _HEAD.pack(now, columns) + raw.astype("<f8").tobytes()


def decode(values: Sequence[bytes], columns: int, width: int) -> tuple[Ints, NDArray[np.float64], Ints]:
    """Records -> as of (n,), raw matrix (n, width), and which records they were; others are of another layout."""
    size = _HEAD.size + 8 * width
    fits = [
        i
        for i, value in enumerate(values)
        if value is not None and len(value) == size and _HEAD.unpack_from(value)[1] == columns
    ]
    if not fits:
        return np.zeros(0, np.int64), np.zeros((0, width)), np.zeros(0, np.int64)
    data = np.frombuffer(b"".join([values[i] for i in fits]), np.uint8).reshape(len(fits), size)
    now = np.ascontiguousarray(data[:, :8]).view("<i8")[:, 0]
    raw = np.ascontiguousarray(data[:, _HEAD.size :]).view("<f8")
    return now.astype(np.int64), raw.astype(np.float64), np.array(fits, np.int64)
