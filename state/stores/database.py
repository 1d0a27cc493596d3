"""A RocksDB database whose errors are told apart: damaged files raise BrokenStore, all else OSError.

It has no write-ahead log: after a kill it holds what was flushed, and the changelog topic has the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    RdictIter,
    WriteBatch,
    WriteOptions,
)

from state.stores import folder

DAMAGE = ("Corruption", "IO error: No such file")  # how RocksDB's messages begin when its files are damaged
WRITE_BUFFER_BYTES = 4 << 20  # small, because a worker has one or more per partition
BLOOM_BITS = 10  # per key

T = TypeVar("T")


class BrokenStore(ValueError):
    """The files fail their checksums, or some are missing. The folder is marked, and the next open refuses it."""


class Database:
    """Keys and values in one folder. A method raises BrokenStore for damaged files, OSError for other failures."""

    def __init__(self, path: Path, cache: Cache | None = None) -> None:
        """Open or create the database. cache: block cache, which several databases may share."""
        self.path = path
        self._write_options = WriteOptions()
        self._write_options.disable_wal = True
        reason = folder.broken_reason(path)
        if reason is not None:
            raise BrokenStore(reason)
        self._rocksdb = self._checked(lambda: Rdict(str(path), _options(cache)))

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._checked(lambda: self._rocksdb.get(key))
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of the keys, None where there is none."""
        values: list[bytes | None] = self._checked(lambda: self._rocksdb.get(list(keys)))
        return values

    def put(self, key: bytes, value: bytes) -> None:
        self._checked(lambda: self._rocksdb.put(key, value, self._write_options))

    def delete(self, key: bytes) -> None:
        self._checked(lambda: self._rocksdb.delete(key, self._write_options))

    def delete_range(self, start: bytes, stop: bytes) -> None:
        """Delete all keys from start on, stop excluded."""
        self._checked(lambda: self._rocksdb.delete_range(start, stop, write_opt=self._write_options))

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Write all changes atomically, in their order; None deletes a key."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self._checked(lambda: self._rocksdb.write(batch, self._write_options))

    def keys_from(self, start: bytes) -> Iterator[bytes]:
        """Keys in order, from a key on."""
        for cursor in self._cursor_from(start):
            yield cursor.key()

    def items_from(self, start: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        """Keys with their values in order, from a key on."""
        for cursor in self._cursor_from(start):
            yield cursor.key(), cursor.value()

    def _cursor_from(self, start: bytes) -> Iterator[RdictIter]:
        """RocksDB's iterator, at each key from one on.

        Not rocksdict's own loops: they end at a damaged block as if it were the end of the database. Here the status
        is checked after the last key.
        """
        cursor = self._rocksdb.iter()
        cursor.seek(start)
        while cursor.valid():
            yield cursor
            cursor.next()
        self._checked(cursor.status)

    def flush(self) -> None:
        """Write everything to files."""
        self._checked(self._rocksdb.flush)

    def close(self) -> None:
        self._rocksdb.close()

    def _checked(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # rocksdict raises one type for all errors; only their text differs
            raise self._error(error) from error

    def _error(self, error: Exception) -> Exception:
        text = str(error)
        if not text.startswith(DAMAGE):
            return OSError(f"{self.path}: {text}")
        reason = f"{self.path}: {text.splitlines()[0]}"
        folder.mark_broken(self.path, reason)
        return BrokenStore(reason)


def block_cache(megabytes: int) -> Cache:
    """A block cache, to be shared by all partitions of a worker."""
    return Cache(megabytes << 20)


def _options(cache: Cache | None) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(3)
    options.set_paranoid_checks(True)  # a damaged file fails the open; blocks are checked at each read in any case
    table = BlockBasedOptions()
    table.set_bloom_filter(BLOOM_BITS, False)
    if cache is not None:
        table.set_block_cache(cache)
    options.set_block_based_table_factory(table)
    return options
