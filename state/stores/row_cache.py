"""A cache of rows in memory, by key. It holds only rows that are on the disk too, so any of them may be dropped.

Rows change often and seldom keep their length. A million of them as Python objects would fragment the heap: measured,
1.7 times their bytes. So new rows are collected in a dict, and each megabyte of them is sealed into one memory-mapped
segment. A segment of which less than half is valid is dissolved: its valid rows become new rows again, and its memory
is returned to the system.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

SEGMENT_BYTES = 1 << 20  # of rows that are sealed together
PUT_CHUNK = 4_096  # rows that put_many takes at once: a segment must not outgrow the offset in a handle
# A handle is one integer: segment number, offset in the segment, length of the row.
_LENGTH_BITS, _OFFSET_BITS = 20, 28
_OFFSET_MASK, _LENGTH_MASK = (1 << _OFFSET_BITS) - 1, (1 << _LENGTH_BITS) - 1
_LENGTHS = struct.Struct("<II")  # of key and row; precedes each key and its row in a segment


@dataclass(slots=True)
class _Segment:
    data: mmap.mmap
    row_bytes: int  # of all rows
    valid_bytes: int  # of the rows that are still valid

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Keys, and the offset of each key's row in the segment."""
        position, end, data = 0, len(self.data), self.data
        while position < end:
            key_length, row_length = _LENGTHS.unpack_from(data, position)
            key_start = position + _LENGTHS.size
            row_start = key_start + key_length
            position = row_start + row_length
            yield data[key_start:row_start], row_start


class RowCache:
    """Rows by key. Where more than `limit` rows are sealed, the oldest segments are dropped.

    >>> cache = RowCache(1000)
    >>> cache.put_many({b"ann": b"row"})
    >>> cache.get_many([b"ann", b"bob"])
    [b'row', None]
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._new: dict[bytes, bytes] = {}
        self._new_bytes = 0
        self._handles: dict[bytes, int] = {}  # of sealed rows; of a key in _new that is here too, the new row counts
        self._segments: dict[int, _Segment] = {}  # by number, oldest first
        self._free_numbers: list[int] = []  # of segments that were dissolved

    def __len__(self) -> int:
        return len(self._handles) + sum(key not in self._handles for key in self._new)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Rows by key, None where there is none."""
        found = list(map(self._new.get, keys))
        get_handle, segments = self._handles.get, self._segments
        for i, row in enumerate(found):
            if row is None and (handle := get_handle(keys[i])) is not None:
                data = segments[handle >> _LENGTH_BITS + _OFFSET_BITS].data
                start = handle >> _LENGTH_BITS & _OFFSET_MASK
                found[i] = data[start : start + (handle & _LENGTH_MASK)]
        return found

    def put_many(self, rows: Mapping[bytes, bytes]) -> None:
        """Add rows by key; each replaces the one before."""
        items = iter(rows.items())
        while chunk := dict(islice(items, PUT_CHUNK)):
            self._new.update(chunk)
            self._new_bytes += sum(map(len, chunk.values()))
            while self._new_bytes >= SEGMENT_BYTES:
                self._seal()

    def drop(self, key: bytes) -> None:
        """Remove a row, if it is there."""
        self._new.pop(key, None)
        self._invalidate([key])

    def _seal(self) -> None:
        """Move all new rows into a segment."""
        keys, rows = list(self._new), list(self._new.values())
        self._new, self._new_bytes = {}, 0
        self._invalidate(keys)
        number = self._free_numbers.pop() if self._free_numbers else len(self._segments)
        row_lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        key_lengths = np.fromiter(map(len, keys), np.int64, len(keys))
        row_ends = np.cumsum(key_lengths + row_lengths + _LENGTHS.size)
        data = mmap.mmap(-1, int(row_ends[-1]))
        prefixes = map(_LENGTHS.pack, key_lengths.tolist(), row_lengths.tolist())
        data.write(b"".join(chain.from_iterable(zip(prefixes, keys, rows, strict=True))))
        self._segments[number] = _Segment(data, int(row_lengths.sum()), int(row_lengths.sum()))
        row_starts = row_ends - row_lengths
        handles = (number << _LENGTH_BITS + _OFFSET_BITS) | (row_starts << _LENGTH_BITS) | row_lengths
        self._handles.update(zip(keys, handles.tolist(), strict=True))
        while len(self._handles) > self._limit:
            self._dissolve(next(iter(self._segments)), keep_rows=False)

    def _invalidate(self, keys: Sequence[bytes]) -> None:
        """Mark the sealed rows of these keys as no longer valid."""
        sparse_segments = set()
        for key in keys:
            handle = self._handles.pop(key, None)
            if handle is not None:
                number = handle >> _LENGTH_BITS + _OFFSET_BITS
                segment = self._segments[number]
                segment.valid_bytes -= handle & _LENGTH_MASK
                if 2 * segment.valid_bytes < segment.row_bytes:
                    sparse_segments.add(number)
        for number in sorted(sparse_segments):
            self._dissolve(number, keep_rows=True)

    def _dissolve(self, number: int, *, keep_rows: bool) -> None:
        """Remove a segment. keep_rows: its valid rows become new rows; otherwise they are dropped."""
        segment = self._segments.pop(number)
        self._free_numbers.append(number)
        for key, start in segment.items():
            handle = self._handles.get(key)
            # A row is valid if its key's handle points at it.
            if handle is not None and handle >> _LENGTH_BITS == number << _OFFSET_BITS | start:
                del self._handles[key]
                if keep_rows and key not in self._new:
                    row = segment.data[start : start + (handle & _LENGTH_MASK)]
                    self._new[key] = row
                    self._new_bytes += len(row)
        segment.data.close()
