"""xxh3_64 of short texts, compiled: the numbers that `xxhash.xxh3_64_intdigest` gives, without an object a text.

The names of the constants are those of the reference implementation, of which this is the part for 1 to 128 bytes.
"""

from __future__ import annotations

import numpy as np

from state.compiled import compiled
from streams.schemas.scan.words import Words

LONGEST = 128  # bytes: longer texts are hashed otherwise

_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
)
_KEYS = np.frombuffer(_SECRET, "<u8").astype(np.uint64)
_FLIP_1_TO_3 = np.uint64(int.from_bytes(_SECRET[:4], "little") ^ int.from_bytes(_SECRET[4:8], "little"))
_FLIP_4_TO_8 = _KEYS[1] ^ _KEYS[2]
_FLIP_LOW = _KEYS[3] ^ _KEYS[4]
_FLIP_HIGH = _KEYS[5] ^ _KEYS[6]
_PRIME64_1, _PRIME64_2, _PRIME64_3 = map(np.uint64, (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))
_PRIME_MX1, _PRIME_MX2 = np.uint64(0x165667919E3779F9), np.uint64(0x9FB21C651E98DF25)
_LOW_HALF, _BYTE = np.uint64(0xFFFFFFFF), np.uint64(0xFF)


@compiled
def xxh3_64(word: Words, begin: int, size: int) -> np.uint64:
    """The hash of `size` bytes, 1 to LONGEST, from a place on. Run as plain Python, numpy has to ignore overflows."""
    if size <= 3:
        return _hash_1_to_3(word, begin, size)
    if size <= 8:
        return _hash_4_to_8(word, begin, size)
    if size <= 16:
        low, high = word[begin] ^ _FLIP_LOW, word[begin + size - 8] ^ _FLIP_HIGH
        return _avalanche(np.uint64(size) + _swap_bytes(low) + high + _fold_product(low, high))
    total = np.uint64(size) * _PRIME64_1
    last = begin + size - 16
    for pair in range((size - 1) // 32, -1, -1):
        total += _mix(word, begin + 16 * pair, 4 * pair) + _mix(word, last - 16 * pair, 4 * pair + 2)
    return _avalanche(total)


@compiled
def _hash_1_to_3(word: Words, begin: int, size: int) -> np.uint64:
    first, middle, last = word[begin] & _BYTE, word[begin + size // 2] & _BYTE, word[begin + size - 1] & _BYTE
    value = (first << np.uint64(16)) | (middle << np.uint64(24)) | last | (np.uint64(size) << np.uint64(8))
    value ^= _FLIP_1_TO_3
    value = (value ^ (value >> np.uint64(33))) * _PRIME64_2
    value = (value ^ (value >> np.uint64(29))) * _PRIME64_3
    return value ^ (value >> np.uint64(32))


@compiled
def _hash_4_to_8(word: Words, begin: int, size: int) -> np.uint64:
    value = ((word[begin + size - 4] & _LOW_HALF) + (word[begin] << np.uint64(32))) ^ _FLIP_4_TO_8
    value ^= _rotate(value, 49) ^ _rotate(value, 24)
    value *= _PRIME_MX2
    value ^= (value >> np.uint64(35)) + np.uint64(size)
    value *= _PRIME_MX2
    return value ^ (value >> np.uint64(28))


@compiled
def _mix(word: Words, begin: int, key: int) -> np.uint64:
    """16 bytes and two keys."""
    return _fold_product(word[begin] ^ _KEYS[key], word[begin + 8] ^ _KEYS[key + 1])


@compiled
def _fold_product(a: np.uint64, b: np.uint64) -> np.uint64:
    """The two halves of a 128-bit product, exclusive or."""
    half = np.uint64(32)
    a_low, a_high, b_low, b_high = a & _LOW_HALF, a >> half, b & _LOW_HALF, b >> half
    low, cross = a_low * b_low, a_high * b_low
    middle = (low >> half) + (cross & _LOW_HALF) + a_low * b_high
    upper = a_high * b_high + (cross >> half) + (middle >> half)
    return upper ^ ((middle << half) | (low & _LOW_HALF))


@compiled
def _avalanche(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(37))) * _PRIME_MX1
    return value ^ (value >> np.uint64(32))


@compiled
def _rotate(value: np.uint64, bits: int) -> np.uint64:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@compiled
def _swap_bytes(value: np.uint64) -> np.uint64:
    pairs, fours = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
    value = ((value & pairs) << np.uint64(8)) | ((value >> np.uint64(8)) & pairs)
    value = ((value & fours) << np.uint64(16)) | ((value >> np.uint64(16)) & fours)
    return (value << np.uint64(32)) | (value >> np.uint64(32))
