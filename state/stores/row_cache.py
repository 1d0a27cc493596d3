"""A cache of rows in memory, by key. It holds only rows that are on the disk too, so any of them may be dropped.

Rows change often and seldom keep their length. A million of them as Python objects would fragment the heap: measured,
1.7 times their bytes. So the rows lie one after the other in blocks of one large piece of memory, and a table finds
them by the hash of the key. A row that is replaced or dropped is overwritten with zeros at once and leaves a hole; a
block of which less than half is valid is emptied: its valid rows move to the block that is being filled, and its memory
returns to the system.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state.compiled import compiled
from state.layout import Ints
from state.row_bytes import Bytes, side_by_side

BLOCK = 1 << 20  # bytes
PUT_CHUNK = 4_096  # rows that put_many takes at once
FEWEST_BLOCKS = 4  # one is being filled, two are free before rows are added, one is left to be dropped
FIRST_SLOTS = 1_024

_NOWHERE = -1  # in place of a position: an empty slot, or no row
# An entry is three words of 8 bytes (lengths of key and row, hash), then the key and the row, filled up to whole words.
_KEY_LENGTH, _ROW_LENGTH, _HASH, _HEAD = 0, 1, 2, 3
# Where `numbers` of a table holds the block that is being filled, where in it the next entry goes, and how many rows
# there are.
_FILLING, _NEXT, _ROWS = 0, 1, 2


class _Table(NamedTuple):
    """The memory and what finds rows in it. Positions count words."""

    data: Bytes
    words: Ints  # the same memory
    slots: Ints  # (2**k,) position of an entry; its slot is the first one free from the hash on
    hashes: Ints  # (2**k,) of the entry in each slot
    used: Ints  # (blocks,) words that are filled, 0 for a block that is free
    valid: Ints  # (blocks,) words of valid entries
    opened: Ints  # (blocks,) number of the block in the order in which blocks were filled
    numbers: Ints  # (3,), see above


class RowCache:
    """Rows by key. Where it holds more than `limit` rows, the oldest blocks are dropped.

    >>> cache = RowCache(1000)
    >>> cache.put_many({b"ann": b"row"})
    >>> cache.get_many([b"ann", b"bob"])
    [b'row', None]
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._memory = _map(FEWEST_BLOCKS)
        data, words = _views(self._memory)
        slots, hashes = _free_slots(FIRST_SLOTS)
        used, valid, opened = np.zeros((3, FEWEST_BLOCKS), np.int64)
        self._table = _Table(data, words, slots, hashes, used, valid, opened, np.zeros(3, np.int64))

    def __len__(self) -> int:
        return int(self._table.numbers[_ROWS])

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Rows by key, None where there is none."""
        starts, ends = np.empty((2, len(keys)), np.int64)
        _find(self._table, *_with_hashes(keys), starts, ends)
        memory = self._memory
        return [
            memory[start:end] if start != _NOWHERE else None
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]

    def put_many(self, rows: Mapping[bytes, bytes]) -> None:
        """Add rows by key; each replaces the one before. A row of more than half a block is not kept."""
        items = iter(rows.items())
        while chunk := list(islice(items, PUT_CHUNK)):
            keys, values = zip(*chunk, strict=True)
            self._make_slots(len(chunk))
            key_columns, row_columns, done = _with_hashes(keys), side_by_side(values), 0
            while done < len(chunk):
                self._make_room()
                done = _put(self._table, *key_columns, *row_columns, done, BLOCK // 8)

    def drop(self, key: bytes) -> None:
        """Remove a row, if it is there, and overwrite its bytes."""
        data, _, hashes = _with_hashes([key])
        _drop_key(self._table, data, hashes[0], BLOCK // 8)

    def _make_slots(self, more: int) -> None:
        """Double the slots until at most half of them are taken by the rows and as many more."""
        fewer, count = self._table, len(self._table.slots)
        while 2 * (len(self) + more) > count:
            count *= 2
        if count > len(fewer.slots):
            slots, hashes = _free_slots(count)
            self._table = fewer._replace(slots=slots, hashes=hashes)
            _fill_slots(self._table, fewer.slots, fewer.hashes)

    def _make_room(self) -> None:
        """Have two free blocks and at most `limit` rows: empty sparse blocks, then drop the oldest ones.

        Two, because adding rows begins a block at most, and so does moving the rows of a sparse one, which frees one.
        """
        sparse = 2 * self._table.valid < self._table.used
        for block in np.flatnonzero(sparse).tolist():
            if block != self._table.numbers[_FILLING]:
                self._empty(block, keep_rows=True)
        while len(self) > self._limit and (full := self._full_blocks()):
            self._empty(full[0], keep_rows=False)
        if self._blocks_short() and not self._grow():
            while self._blocks_short():
                self._empty(self._full_blocks()[0], keep_rows=False)

    def _full_blocks(self) -> list[int]:
        """The blocks that hold entries but for the one that is being filled, the oldest first."""
        full = np.flatnonzero(self._table.used)
        full = full[full != self._table.numbers[_FILLING]]
        return full[self._table.opened[full].argsort()].tolist()

    def _blocks_short(self) -> bool:
        """Whether fewer than two blocks are free."""
        return len(self._full_blocks()) + 3 > len(self._table.used)

    def _grow(self) -> bool:
        """Take a quarter more memory; False where the system or a limit of the process does not give it."""
        blocks = len(self._table.used)
        more = max(FEWEST_BLOCKS, blocks // 4)
        self._table = self._table._replace(data=_NO_BYTES, words=_NO_WORDS)  # memory that is in view cannot be resized
        try:
            self._memory = _resized(self._memory, blocks + more)
        except (OSError, MemoryError):
            more = 0
        data, words = _views(self._memory)
        none = np.zeros(more, np.int64)
        used, valid, opened = (
            np.concatenate((one, none)) for one in (self._table.used, self._table.valid, self._table.opened)
        )
        self._table = self._table._replace(data=data, words=words, used=used, valid=valid, opened=opened)
        return more > 0

    def _empty(self, block: int, *, keep_rows: bool) -> None:
        _empty_block(self._table, block, keep_rows, BLOCK // 8)
        # On Linux the pages return to the system, and read as zeros then; elsewhere they may keep what they hold.
        if sys.platform == "linux" and BLOCK % mmap.PAGESIZE == 0:
            self._memory.madvise(mmap.MADV_DONTNEED, block * BLOCK, BLOCK)
        else:
            self._table.data[block * BLOCK : (block + 1) * BLOCK] = 0


_NO_BYTES, _NO_WORDS = np.zeros(0, np.uint8), np.zeros(0, np.int64)


def _map(blocks: int) -> mmap.mmap:
    """Zeros; a page takes memory once it is written."""
    return mmap.mmap(-1, blocks * BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _resized(memory: mmap.mmap, blocks: int) -> mmap.mmap:
    """The same memory with more blocks. OSError where there is not as much."""
    try:
        memory.resize(blocks * BLOCK)  # moves pages, and copies nothing
        return memory
    except SystemError:  # not Linux
        larger = _map(blocks)
        larger[: len(memory)] = memory[:]
        return larger


def _views(memory: mmap.mmap) -> tuple[Bytes, Ints]:
    """The memory as bytes and as words."""
    data = np.frombuffer(memory, np.uint8)
    return data, data.view(np.int64)


def _with_hashes(keys: Sequence[bytes]) -> tuple[Bytes, Ints, Ints]:
    """Bytes and edges of keys, and Python's hashes of them: seeded, so that nobody can choose ids of the same hash."""
    return *side_by_side(keys), np.fromiter(map(hash, keys), np.int64, len(keys))


def _free_slots(count: int) -> tuple[Ints, Ints]:
    return np.full(count, _NOWHERE), np.zeros(count, np.int64)


@compiled
def _copy(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy n elements. The compiler makes one block copy of it, as it knows that the index is not negative."""
    for i in range(len(source)):
        target[i] = source[i]


@compiled
def _slot_of(table: _Table, key: Bytes, hashed: int) -> int:
    """The slot of a key, or the free one where it would go."""
    last = len(table.slots) - 1
    slot = hashed & last
    while table.slots[slot] != _NOWHERE:
        if table.hashes[slot] == hashed and _has_key(table, table.slots[slot], key):
            break
        slot = slot + 1 & last
    return slot


@compiled
def _has_key(table: _Table, position: int, key: Bytes) -> bool:
    if table.words[position + _KEY_LENGTH] != len(key):
        return False
    start = 8 * (position + _HEAD)
    same = True
    for i in range(len(key)):
        same &= table.data[start + i] == key[i]
    return same


@compiled
def _free_slot(table: _Table, slot: int) -> None:
    """Free a slot. Entries behind it that belong at it or before it move up, so that they are still found."""
    last = len(table.slots) - 1
    behind = slot + 1 & last
    while table.slots[behind] != _NOWHERE:
        home = table.hashes[behind] & last
        if behind - home & last >= behind - slot & last:
            table.slots[slot], table.hashes[slot] = table.slots[behind], table.hashes[behind]
            slot = behind
        behind = behind + 1 & last
    table.slots[slot] = _NOWHERE


@compiled
def _fill_slots(table: _Table, slots: Ints, hashes: Ints) -> None:
    """Take over the entries of fewer slots. No key is in them twice."""
    last = len(table.slots) - 1
    for old in range(len(slots)):
        if slots[old] != _NOWHERE:
            slot = hashes[old] & last
            while table.slots[slot] != _NOWHERE:
                slot = slot + 1 & last
            table.slots[slot], table.hashes[slot] = slots[old], hashes[old]


@compiled
def _size(key_length: int, row_length: int) -> int:
    """Words of an entry."""
    return _HEAD + (key_length + row_length + 7) // 8


@compiled
def _size_at(table: _Table, position: int) -> int:
    return _size(table.words[position + _KEY_LENGTH], table.words[position + _ROW_LENGTH])


@compiled
def _find(table: _Table, keys: Bytes, key_edges: Ints, hashes: Ints, starts: Ints, ends: Ints) -> None:
    """Set where the rows of n keys begin and end in the memory, (n,) bytes: _NOWHERE where there is none."""
    for i in range(len(starts)):
        position = table.slots[_slot_of(table, keys[key_edges[i] : key_edges[i + 1]], hashes[i])]
        starts[i] = ends[i] = _NOWHERE
        if position != _NOWHERE:
            starts[i] = 8 * (position + _HEAD) + table.words[position + _KEY_LENGTH]
            ends[i] = starts[i] + table.words[position + _ROW_LENGTH]


@compiled
def _put(
    table: _Table,
    keys: Bytes,
    key_edges: Ints,
    hashes: Ints,
    rows: Bytes,
    row_edges: Ints,
    done: int,
    block_words: int,
) -> int:
    """Add rows from the one numbered `done` on, until a block is full and the next one has been begun; returns the
    number of the first row that was not added. There has to be a free block."""
    first_block = table.numbers[_FILLING]
    for i in range(done, len(hashes)):
        key = keys[key_edges[i] : key_edges[i + 1]]
        key_length, row_length = len(key), row_edges[i + 1] - row_edges[i]
        size = _size(key_length, row_length)
        if 2 * size > block_words:
            _drop_key(table, key, hashes[i], block_words)
            continue
        if not _fits(table, size, block_words):
            if table.numbers[_FILLING] != first_block:
                return i
            _open_block(table, block_words)
        slot = _slot_of(table, key, hashes[i])
        if table.slots[slot] != _NOWHERE:
            _invalidate(table, table.slots[slot], block_words)
        position = _take(table, size, block_words)
        table.words[position + _KEY_LENGTH], table.words[position + _ROW_LENGTH] = key_length, row_length
        table.words[position + _HASH] = hashes[i]
        start, end = 8 * (position + _HEAD), 8 * (position + _HEAD) + key_length + row_length
        _copy(key, table.data[start : start + key_length])
        _copy(rows[row_edges[i] : row_edges[i + 1]], table.data[start + key_length : end])
        table.slots[slot], table.hashes[slot] = position, hashes[i]
        table.numbers[_ROWS] += 1
    return len(hashes)


@compiled
def _fits(table: _Table, size: int, block_words: int) -> bool:
    return table.numbers[_NEXT] + size <= (table.numbers[_FILLING] + 1) * block_words


@compiled
def _open_block(table: _Table, block_words: int) -> None:
    """Fill a free block from now on. There is one: RowCache._make_room() has seen to it."""
    newest = table.opened[table.numbers[_FILLING]]
    for block in range(len(table.used)):
        if table.used[block] == 0 and block != table.numbers[_FILLING]:
            table.numbers[_FILLING], table.numbers[_NEXT] = block, block * block_words
            table.opened[block] = newest + 1
            return


@compiled
def _take(table: _Table, size: int, block_words: int) -> int:
    """The position of a new entry in the block that is being filled."""
    position, block = table.numbers[_NEXT], table.numbers[_FILLING]
    table.numbers[_NEXT] += size
    table.used[block] += size
    table.valid[block] += size
    return position


@compiled
def _invalidate(table: _Table, position: int, block_words: int) -> None:
    """Overwrite an entry with zeros, except what says how long it is and which hash it had."""
    size = _size_at(table, position)
    entry = table.words[position + _HEAD : position + size]
    for word in range(len(entry)):
        entry[word] = 0
    table.valid[position // block_words] -= size
    table.numbers[_ROWS] -= 1


@compiled
def _drop_key(table: _Table, key: Bytes, hashed: int, block_words: int) -> None:
    """Drop the entry of a key, if there is one."""
    slot = _slot_of(table, key, hashed)
    if table.slots[slot] != _NOWHERE:
        _invalidate(table, table.slots[slot], block_words)
        _free_slot(table, slot)


@compiled
def _empty_block(table: _Table, block: int, keep_rows: bool, block_words: int) -> None:
    """Free a block. keep_rows: its valid entries move to the block that is being filled; otherwise they are dropped.

    At most half of a block moves, so what is left of the block that is being filled and one free block hold it.
    """
    position, end, last = block * block_words, block * block_words + table.used[block], len(table.slots) - 1
    while position < end:
        size = _size_at(table, position)
        slot = table.words[position + _HASH] & last
        while table.slots[slot] != position and table.slots[slot] != _NOWHERE:
            slot = slot + 1 & last
        if table.slots[slot] == position and keep_rows:
            if not _fits(table, size, block_words):
                _open_block(table, block_words)
            moved = _take(table, size, block_words)
            _copy(table.words[position : position + size], table.words[moved : moved + size])
            table.slots[slot] = moved
        elif table.slots[slot] == position:
            _free_slot(table, slot)
            table.numbers[_ROWS] -= 1
        position += size
    table.used[block], table.valid[block], table.opened[block] = 0, 0, 0
