"""One partition's rows: changes not yet durable, over a bounded cache, over RocksDB.

The changelog is the log: RocksDB is written after the transaction, without a log of its own, together with the
changelog offset that it stands for, so it can be behind, never ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)  # fmt: skip

from state.cache import RowCache
from state.rows import LAYOUT

OFFSET_KEY = b"\x00\x00offset"  # next changelog offset that the rows stand for
META_KEY = b"\x00\x00meta"


class Meta(msgspec.Struct, frozen=True):
    """Whose rows these are; a store of another deployment is refused."""

    deployment: str
    partition: int
    partitions: int
    layout: int = LAYOUT


class ForeignStore(ValueError):
    """The folder holds another deployment's rows, or rows of another layout."""


class RowStore:
    """get_many / put_many / written: read through the cache, hold changes, and write what is durable elsewhere."""

    def __init__(self, path: Path, meta: Meta, *, cache_rows: int, block_cache: Cache | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._db = Rdict(str(path), _options(block_cache))
        self._cache = RowCache(cache_rows)
        self._changed: dict[bytes, bytes | None] = {}  # not written yet
        self._write = WriteOptions()
        self._write.disable_wal = True
        stored = self._db.get(META_KEY)
        if stored is None:
            self._db.put(META_KEY, msgspec.json.encode(meta), self._write)
        elif (found := msgspec.json.decode(stored, type=Meta)) != meta:
            self.close()
            raise ForeignStore(f"{path} holds {found}, expected {meta}")

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Rows by key, None where there is none."""
        out = self._cache.get_many(keys)
        changed, missing = self._changed, []
        if changed:
            for i, key in enumerate(keys):
                if key in changed:
                    out[i] = changed[key]
                elif out[i] is None:
                    missing.append(i)
        else:
            missing = [i for i, row in enumerate(out) if row is None]
        if missing:
            found = self._db.get([keys[i] for i in missing])
            for i, row in zip(missing, found, strict=True):
                out[i] = row
            self._cache.put_many({keys[i]: row for i, row in zip(missing, found, strict=True) if row is not None})
        return out

    def put_many(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Changed rows (None a tombstone): held until they are written."""
        self._changed.update(rows)

    def written(self, rows: Mapping[bytes, bytes | None], offset: int) -> None:
        """The rows of a flush are durable in the changelog up to offset (the next one): write them here too."""
        self._put(rows, offset)
        changed, clean = self._changed, {}
        for key, row in rows.items():
            if changed.get(key, row) is not row:  # it has changed again since
                continue
            changed.pop(key, None)
            if row is None or key[:1] == b"\x00":  # reserved keys are read once
                self._cache.drop(key)
            else:
                clean[key] = row
        self._cache.put_many(clean)

    def apply(self, keys: Sequence[bytes], values: Sequence[bytes | None], offset: int) -> None:
        """Changelog records in their order, in recovery; the last one of a key wins."""
        self._put(dict(zip(keys, values, strict=True)), offset)

    def _put(self, rows: Mapping[bytes, bytes | None], offset: int) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, row in rows.items():
            if row is None:
                batch.delete(key)
            else:
                batch.put(key, row)
        batch.put(OFFSET_KEY, b"%d" % offset)
        self._db.write(batch, self._write)

    def offset(self) -> int | None:
        """The next changelog offset that the rows stand for; None for an empty store."""
        stored = self._db.get(OFFSET_KEY)
        return None if stored is None else int(stored)

    @property
    def cached(self) -> int:
        """Rows in memory."""
        return len(self._cache) + len(self._changed)

    def scan(self, after: bytes | None, limit: int) -> list[bytes]:
        """Keys of written rows in order, after a key, at most limit; reserved keys (NUL first) are left out."""
        start = b"\x01" if after is None else after + b"\x00"
        found: list[bytes] = []
        for key in self._db.keys(from_key=start):
            if len(found) == limit:
                break
            found.append(key)
        return found

    def close(self) -> None:
        self._db.flush()
        self._db.close()


def block_cache(megabytes: int) -> Cache:
    """One block cache for all partitions of a worker."""
    return Cache(megabytes << 20)


def _options(cache: Cache | None) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(4 << 20)  # a worker has as many as partitions
    options.set_max_write_buffer_number(3)
    table = BlockBasedOptions()
    table.set_bloom_filter(10, False)
    if cache is not None:
        table.set_block_cache(cache)
    options.set_block_based_table_factory(table)
    return options
