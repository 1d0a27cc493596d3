"""The partition of a key by Kafka's default partitioner: murmur2, as in the Java client (librdkafka has another)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from state.rows import Ints

_SEED, _M = np.uint32(0x9747B28C), np.uint32(0x5BD1E995)


def partitions_of(keys: Sequence[bytes], partitions: int) -> Ints:
    """The partition of each key (n,). Keys of one length are hashed at once: one by one each costs microseconds."""
    sizes = np.fromiter(map(len, keys), np.int64, len(keys))
    numbers = np.empty(len(keys), np.int64)
    for size in np.unique(sizes).tolist():
        chosen = np.flatnonzero(sizes == size)
        text = np.frombuffer(b"".join([keys[i] for i in chosen.tolist()]), np.uint8).reshape(len(chosen), size)
        numbers[chosen] = (_murmur2(text) & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)
    return numbers


def _murmur2(text: np.ndarray) -> np.ndarray:
    """Hash of each line of (n, size) bytes."""
    count, size = text.shape
    whole = size // 4 * 4
    words = np.ascontiguousarray(text[:, :whole]).view("<u4").reshape(count, size // 4)
    hashes = np.full(count, _SEED ^ np.uint32(size), np.uint32)
    for i in range(size // 4):
        word = words[:, i] * _M
        word ^= word >> np.uint32(24)
        hashes = hashes * _M ^ word * _M
    for i in range(size - 1, whole - 1, -1):
        hashes ^= text[:, i].astype(np.uint32) << np.uint32(8 * (i - whole))
    if size > whole:
        hashes *= _M
    hashes ^= hashes >> np.uint32(13)
    hashes *= _M
    hashes ^= hashes >> np.uint32(15)
    return hashes
