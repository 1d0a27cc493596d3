"""Training rows: which steps the learner sees, and their bytes.

At most one row a user and active hour: the event whose number within the hour is 1, 2, 4 or 8, as a hash of
user and hour says, so that short and long visits are both seen. In a busy shop only those of some users.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from state.fold import HOUR_MS, Steps
from state.rows import Ints
from streams.progress import Shop

_HEAD = struct.Struct("<qI")  # as of (ms), layout of the raw matrix


def chosen(steps: Steps, birth: Ints) -> tuple[Ints, NDArray[np.uint64]]:
    """Steps (indices) that could be sent, and a hash of each one's user, uniform over 2**32 values.

    birth (s,) of each step's row, which with the partition names the user.
    """
    user = _mix(birth.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))  # splitmix64's constants
    mixed = _mix(user ^ (steps.now // HOUR_MS).astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9))
    wanted = np.int64(1) << (mixed >> np.uint64(62)).astype(np.int64)
    found = np.flatnonzero((steps.event >= 0) & (steps.ordinal == wanted))
    return found, user[found] >> np.uint64(32)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value ^ value >> np.uint64(29)
    value *= np.uint64(0x94D049BB133111EB)
    return value ^ value >> np.uint64(32)


def sampled(shop: Shop, hour: Ints, user: NDArray[np.uint64], hourly: int) -> Ints:
    """Which of the candidates (indices, in applied order) are sent: those of users whose hash lies below a share.

    The share is what the hour before would have needed to send `hourly` rows, so the same users are followed through
    time; twice as many are never sent. hour (n,): accounting hours, never falling; folds them into shop, in place.
    """
    if not len(hour):
        return hour
    kept = []
    start = np.flatnonzero(np.r_[True, hour[1:] != hour[:-1]])
    for a, b in zip(start.tolist(), [*start.tolist()[1:], len(hour)], strict=True):
        if int(hour[a]) > shop.training_hour:
            if shop.training_hour >= 0:
                shop.share = min(1 << 32, (hourly << 32) // max(1, shop.candidates))
            shop.training_hour, shop.candidates, shop.training = int(hour[a]), 0, 0
        shop.candidates += b - a
        taken = a + np.flatnonzero(user[a:b] < np.uint64(shop.share))[: max(0, 2 * hourly - shop.training)]
        shop.training += len(taken)
        kept.append(taken)
    return np.concatenate(kept)


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
