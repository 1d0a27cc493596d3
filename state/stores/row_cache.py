"""Clean rows in memory, by key, in segments: what a million small objects of their own would not fit in.

Rows change often and seldom keep their length; as objects they would leave holes everywhere that nothing else fits in
(measured: 1.7 times their bytes). Here new rows gather in a dict; a megabyte of them is sealed into one piece of
memory mapped for it, and a piece of which less than half is still in force is dissolved: its live rows join the new
ones and the memory goes back.
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
_LENGTH, _OFFSET = 20, 28  # bits of a handle: segment, offset, length
_AT, _LONG = (1 << _OFFSET) - 1, (1 << _LENGTH) - 1
_LENGTHS = struct.Struct("<II")  # before each key and row of a segment


@dataclass(slots=True)
class _Segment:
    data: mmap.mmap
    rows: int  # bytes of rows
    live: int  # of which still in force

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Keys, and where their rows start."""
        at, end, data = 0, len(self.data), self.data
        while at < end:
            key, row = _LENGTHS.unpack_from(data, at)
            at += _LENGTHS.size + key + row
            yield data[at - row - key : at - row], at - row


class RowCache:
    """get / put / drop; beyond `limit` rows the oldest segments go."""

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
                start = handle >> _LENGTH & _AT
                out[i] = segments[handle >> _LENGTH + _OFFSET].data[start : start + (handle & _LONG)]
        return out

    def put_many(self, rows: Mapping[bytes, bytes]) -> None:
        items = iter(rows.items())
        while some := dict(islice(items, PIECE)):
            self._new.update(some)
            self._new_bytes += sum(map(len, some.values()))
            while self._new_bytes >= SEGMENT:
                self._seal()

    def drop(self, key: bytes) -> None:
        self._new.pop(key, None)
        self._forget([key])

    def _seal(self) -> None:
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
        handles = (number << _LENGTH + _OFFSET) | (end - length << _LENGTH) | length
        self._handles.update(zip(keys, handles.tolist(), strict=True))
        while len(self._handles) > self._limit:
            self._dissolve(next(iter(self._segments)), keep=False)

    def _forget(self, keys: Sequence[bytes]) -> None:
        """Sealed rows of keys are no longer in force."""
        pop, segments, sparse = self._handles.pop, self._segments, set()
        for key in keys:
            handle = pop(key, None)
            if handle is not None:
                number = handle >> _LENGTH + _OFFSET
                segment = segments[number]
                segment.live -= handle & _LONG
                if 2 * segment.live < segment.rows:
                    sparse.add(number)
        for number in sorted(sparse):
            self._dissolve(number, keep=True)

    def _dissolve(self, number: int, *, keep: bool) -> None:
        segment = self._segments.pop(number)
        self._free.append(number)
        for key, start in segment.items():
            handle = self._handles.get(key)
            if handle is not None and handle >> _LENGTH == number << _OFFSET | start:
                del self._handles[key]
                if keep and key not in self._new:
                    row = segment.data[start : start + (handle & _LONG)]
                    self._new[key] = row
                    self._new_bytes += len(row)
        segment.data.close()
