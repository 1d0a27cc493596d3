"""A cache of clean rows (rows that the disk has too) in memory, by key, in segments.

Rows change often and seldom keep their length. As a million Python objects they would fragment the heap: measured, 1.7
times their bytes. Here new rows gather in a dict; a megabyte of them is sealed into one memory-mapped segment. A
segment of which less than half is still valid is dissolved: its valid rows join the new ones, and its memory goes back
to the system.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

SEGMENT = 1 << 20  # bytes of rows that are sealed together
PIECE = 4_096  # rows taken at once: what is sealed must fit into a handle's offset, however much is put
# a handle is one integer: segment number, offset in it, length of the row
_LENGTH_BITS, _OFFSET_BITS = 20, 28
_OFFSET_MASK, _LENGTH_MASK = (1 << _OFFSET_BITS) - 1, (1 << _LENGTH_BITS) - 1
_LENGTHS = struct.Struct("<II")  # before each key and row of a segment


@dataclass(slots=True)
class _Segment:
    data: mmap.mmap
    rows: int  # bytes of rows
    live: int  # of which still valid

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Keys, and where their rows start."""
        at, end, data = 0, len(self.data), self.data
        while at < end:
            key, row = _LENGTHS.unpack_from(data, at)
            at += _LENGTHS.size + key + row
            yield data[at - row - key : at - row], at - row


class RowCache:
    """Rows by key; beyond `limit` sealed rows the oldest segments go.

    >>> cache = RowCache(1000)
    >>> cache.put_many({b"ann": b"row"})
    >>> cache.get_many([b"ann", b"bob"])
    [b'row', None]
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._new: dict[bytes, bytes] = {}
        self._new_bytes = 0
        self._handles: dict[bytes, int] = {}  # of sealed rows; where a key is new too, the new row counts
        self._segments: dict[int, _Segment] = {}  # the oldest first
        self._free: list[int] = []  # numbers of segments that are gone

    def __len__(self) -> int:
        return len(self._handles) + sum(key not in self._handles for key in self._new)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Rows by key, None where there is none."""
        out = list(map(self._new.get, keys))
        handle_of, segments = self._handles.get, self._segments
        for i, row in enumerate(out):
            if row is None and (handle := handle_of(keys[i])) is not None:
                start = handle >> _LENGTH_BITS & _OFFSET_MASK
                out[i] = segments[handle >> _LENGTH_BITS + _OFFSET_BITS].data[start : start + (handle & _LENGTH_MASK)]
        return out

    def put_many(self, rows: Mapping[bytes, bytes]) -> None:
        """Rows by key; each takes the place of the one before."""
        items = iter(rows.items())
        while piece := dict(islice(items, PIECE)):
            self._new.update(piece)
            self._new_bytes += sum(map(len, piece.values()))
            while self._new_bytes >= SEGMENT:
                self._seal()

    def drop(self, key: bytes) -> None:
        """Forget a row, if it is there."""
        self._new.pop(key, None)
        self._forget([key])

    def _seal(self) -> None:
        """All new rows become a segment."""
        keys, rows = list(self._new), list(self._new.values())
        self._new, self._new_bytes = {}, 0
        self._forget(keys)
        number = self._free.pop() if self._free else len(self._segments)
        length = np.fromiter(map(len, rows), np.int64, len(rows))
        heads = map(_LENGTHS.pack, map(len, keys), length.tolist())
        end = np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)) + length + _LENGTHS.size)
        data = mmap.mmap(-1, int(end[-1]))
        data.write(b"".join(chain.from_iterable(zip(heads, keys, rows, strict=True))))
        self._segments[number] = _Segment(data, int(length.sum()), int(length.sum()))
        handles = (number << _LENGTH_BITS + _OFFSET_BITS) | (end - length << _LENGTH_BITS) | length
        self._handles.update(zip(keys, handles.tolist(), strict=True))
        while len(self._handles) > self._limit:
            self._dissolve(next(iter(self._segments)), keep=False)

    def _forget(self, keys: Sequence[bytes]) -> None:
        """The sealed rows of these keys are no longer valid."""
        pop, segments, sparse = self._handles.pop, self._segments, set()
        for key in keys:
            handle = pop(key, None)
            if handle is not None:
                number = handle >> _LENGTH_BITS + _OFFSET_BITS
                segment = segments[number]
                segment.live -= handle & _LENGTH_MASK
                if 2 * segment.live < segment.rows:
                    sparse.add(number)
        for number in sorted(sparse):
            self._dissolve(number, keep=True)

    def _dissolve(self, number: int, *, keep: bool) -> None:
        """A segment goes; keep: its valid rows join the new ones."""
        segment = self._segments.pop(number)
        self._free.append(number)
        for key, start in segment.items():
            handle = self._handles.get(key)
            if handle is not None and handle >> _LENGTH_BITS == number << _OFFSET_BITS | start:
                del self._handles[key]
                if keep and key not in self._new:
                    row = segment.data[start : start + (handle & _LENGTH_MASK)]
                    self._new[key] = row
                    self._new_bytes += len(row)
        segment.data.close()
