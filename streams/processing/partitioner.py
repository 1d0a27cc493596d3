"""Where Kafka's default partitioner places a key: murmur2, as the Java client has it (librdkafka's default differs)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from state.rows import Ints

_SEED, _M = np.uint32(0x9747B28C), np.uint32(0x5BD1E995)


def placed(keys: Sequence[bytes], partitions: int) -> Ints:
    """The partition of each key (n,), whole lengths at a time: a key alone costs microseconds in a loop of Python."""
    sizes = np.fromiter(map(len, keys), np.int64, len(keys))
    out = np.empty(len(keys), np.int64)
    for size in np.unique(sizes).tolist():
        at = np.flatnonzero(sizes == size)
        text = np.frombuffer(b"".join([keys[i] for i in at.tolist()]), np.uint8).reshape(len(at), size)
        out[at] = (_murmur2(text) & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)
    return out


def _murmur2(text: np.ndarray) -> np.ndarray:
    """Hash of each line of (n, size) bytes."""
    count, size = text.shape
    whole = size // 4 * 4
    words = np.ascontiguousarray(text[:, :whole]).view("<u4").reshape(count, size // 4)
    found = np.full(count, _SEED ^ np.uint32(size), np.uint32)
    for i in range(size // 4):
        word = words[:, i] * _M
        word ^= word >> np.uint32(24)
        found = found * _M ^ word * _M
    for i in range(size - 1, whole - 1, -1):
        found ^= text[:, i].astype(np.uint32) << np.uint32(8 * (i - whole))
    if size > whole:
        found *= _M
    found ^= found >> np.uint32(13)
    found *= _M
    found ^= found >> np.uint32(15)
    return found
