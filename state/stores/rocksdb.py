"""One partition's rows: changes that are not durable yet, over a bounded cache, over RocksDB.

The changelog topic is the log. RocksDB is written after the transaction, without a write-ahead log of its own, in one
batch with the changelog offset up to which its rows are current. So it can be behind the changelog, never ahead of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch, WriteOptions

from state import expiry_index
from state.layout import LAYOUT
from state.stores.row_cache import RowCache

OFFSET_KEY = b"\x00\x00offset"  # the next changelog offset to apply
META_KEY = b"\x00\x00meta"
SEEN_KEY = b"\x00\x00seen"  # ms: when the rows were last known to be all that the changelog holds
INDEX_KEY = b"\x00\x00index"  # what the expiry index was built for; none while it is not complete
SWEPT_KEY = b"\x00\x00swept"  # ms: up to where exits of the rows here are decided
INDEX_FORMAT = b"1:%d"  # the index's own format, and the units after which users are forgotten
INDEXED = 20_000  # rows at a time when it is built
KEPT_ASIDE = 2  # broken stores of a partition that are kept for whoever wants to look at them
BROKEN = ("Corruption", "IO error: No such file")  # how RocksDB's messages begin when its files are damaged

_MISSING = object()
T = TypeVar("T")


class Meta(msgspec.Struct, frozen=True):
    """Whose rows a store holds; a store of another deployment is refused."""

    deployment: str
    partition: int
    partitions: int
    layout: int = LAYOUT  # the newest in it; rows carry their own, so older ones are converted as they are touched
    changelog: str = ""  # id of the changelog topic; "" where it was not noted


class ForeignStore(ValueError):
    """The folder holds another deployment's rows, or rows of a later layout."""


class LostChangelog(ValueError):
    """The rows are those of a changelog topic that is gone; another topic has its name."""


class BrokenStore(ValueError):
    """The files are damaged, by their checksums, or some are missing; the next open sets them aside."""


class RowStore:
    """Reads go through the changes and the cache. Changes are held in memory until they are durable in the changelog
    (`written`); only then are they written to RocksDB.
    """

    def __init__(
        self, path: Path, meta: Meta, *, cache_rows: int, block_cache: Cache | None = None, forget: int = 1 << 30
    ) -> None:
        """Open or create the store in a folder.

        cache_rows: how many rows stay in memory; forget: units (five minutes) without an event after which a user is
        forgotten. ForeignStore, LostChangelog or BrokenStore where it cannot be used; the folder is left as it is.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._cache = RowCache(cache_rows)
        self._changed: dict[bytes, bytes | None] = {}  # not written yet
        self._index: dict[bytes, bytes | None] = {}  # changes of the expiry index, not written yet
        self._from = expiry_index.PREFIX  # entries before are done with
        self._forget = forget
        self._write = WriteOptions()
        self._write.disable_wal = True
        if _mark(path).exists():
            raise BrokenStore(_mark(path).read_text(encoding="utf-8"))
        self._db = self._checked(lambda: Rdict(str(path), _options(block_cache)))
        try:
            self._check(meta)
            self._indexed = self._read(INDEX_KEY) == INDEX_FORMAT % forget
        except Exception:
            self._db.close()
            raise

    def _check(self, meta: Meta) -> None:
        stored = self._read(META_KEY)
        if stored is None:
            if self.offset() is not None:
                raise ForeignStore(f"{self.path} holds rows, but not whose")
        else:
            try:
                found = msgspec.json.decode(stored, type=Meta)
            except msgspec.DecodeError:
                raise ForeignStore(f"{self.path} does not say whose rows it holds") from None
            mine, theirs = _owner(meta), _owner(found)
            if mine != theirs:
                raise ForeignStore(f"{self.path} holds {theirs}, expected {mine}")
            if found.layout > meta.layout:
                raise ForeignStore(f"{self.path} holds rows of layout {found.layout}, this version reads {meta.layout}")
            if found.changelog not in ("", meta.changelog):
                raise LostChangelog(f"{self.path} holds rows of another changelog topic of the same name")
        if stored != (mine_now := msgspec.json.encode(meta)):
            self._checked(lambda: self._db.put(META_KEY, mine_now, self._write))

    def _read(self, key: bytes) -> bytes | None:
        found: bytes | None = self._checked(lambda: self._db.get(key))
        return found

    def _checked(self, work: Callable[[], T]) -> T:
        """The result of a call of RocksDB. Where its files are damaged the store is marked for the next open, and
        BrokenStore is raised; OSError for other errors."""
        try:
            return work()
        except Exception as error:  # rocksdict has no kinds of errors, only their text
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> Exception:
        text = str(error)
        if not text.startswith(BROKEN):
            return OSError(f"{self.path}: {text}")
        reason = f"{self.path}: {text.splitlines()[0]}"
        _mark(self.path).write_text(reason, encoding="utf-8")
        return BrokenStore(reason)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Rows by key, None where there is none; in the order of the keys."""
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
            found = self._checked(lambda: self._db.get([keys[i] for i in missing]))
            for i, row in zip(missing, found, strict=True):
                out[i] = row
            read = ((keys[i], row) for i, row in zip(missing, found, strict=True) if row is not None)
            # reserved keys are not cached: a recovery writes them to RocksDB without the cache
            self._cache.put_many({key: row for key, row in read if key[:1] != b"\x00"})
        return out

    def put_many(self, rows: Mapping[bytes, bytes | None], index: Mapping[bytes, bytes | None] = {}) -> None:
        """Changed rows (None a tombstone) and entries of the expiry index (None: gone): held until they are written."""
        self._changed.update(rows)
        self._index.update(index)

    def due(self, until: int, limit: int) -> list[bytes]:
        """Entries of the expiry index up to an edge (units), at most limit; the caller takes them out of the index. An
        entry is returned once, and entries put from now on have to lie above `until`."""
        bound, index = expiry_index.entry(until + 1, b""), self._index
        found = [entry for entry, there in index.items() if there is not None and entry < bound][:limit]
        for entry in self._keys(self._from):
            if entry >= bound or len(found) >= limit:
                break
            self._from = entry + b"\x00"
            if entry not in index:
                found.append(entry)
        return found

    def written(
        self, rows: Mapping[bytes, bytes | None], offset: int, index: Mapping[bytes, bytes | None] = {}, swept: int = 0
    ) -> None:
        """Write the rows of a flush, which are durable in the changelog, up to offset (the next one to apply).

        index: changes of the expiry index that go with them; swept: time (ms) up to which exits are decided.
        """
        self._put(rows, offset, {**index, SWEPT_KEY: b"%d" % swept})
        for entry, there in index.items():
            if self._index.get(entry, _MISSING) is there:
                del self._index[entry]
        changed, clean = self._changed, {}
        for key, row in rows.items():
            if changed.get(key, row) is not row:  # it has changed again since
                continue
            changed.pop(key, None)
            if row is None or key[:1] == b"\x00":  # reserved keys are read once, at the start
                self._cache.drop(key)
            else:
                clean[key] = row
        self._cache.put_many(clean)

    def apply(self, keys: Sequence[bytes], values: Sequence[bytes | None], offset: int) -> None:
        """Write changelog records, in recovery; in their order, so the last one of a key wins. offset: the next one."""
        latest = dict(zip(keys, values, strict=True))
        users = {key: row for key, row in latest.items() if key[:1] != b"\x00"}
        self._put(latest, offset, self._entries(users) if self._indexed else {})

    def _entries(self, rows: Mapping[bytes, bytes | None]) -> dict[bytes, bytes | None]:
        """Changes of the index for rows that recovery brings. The entries of the rows they replace are taken out: an
        erased user's id must not stay in the index until its time comes."""
        index: dict[bytes, bytes | None] = {}
        here = self._checked(lambda: self._db.get(list(rows)))
        old = {key: row for key, row in zip(rows, here, strict=True) if row is not None}
        for key, row in old.items():
            if rows[key] is None:
                index |= dict.fromkeys(expiry_index.possible_entries(key, row, self._forget))
        swept = int(self._read(SWEPT_KEY) or 0)
        index |= dict.fromkeys(expiry_index.entries(list(old), list(old.values()), swept, self._forget))
        new = {key: row for key, row in rows.items() if row is not None}
        return index | expiry_index.entries(list(new), list(new.values()), 0, self._forget)

    def build_index(self) -> None:
        """Build the expiry index from the rows where it is not complete: after recovery into an empty store, and where
        users are forgotten after another time than when it was built."""
        if self._indexed:
            return
        # from here on it is not complete, whatever it was built for: a process that ends in between leaves a part of it
        self._checked(lambda: self._db.delete(INDEX_KEY, self._write))
        first, end = expiry_index.PREFIX, expiry_index.PREFIX + b"\xff" * 5
        self._checked(lambda: self._db.delete_range(first, end, write_opt=self._write))
        users: list[bytes] = []
        rows: list[bytes] = []
        for key, row in self._items(b"\x01"):
            users.append(key)
            rows.append(row)
            if len(users) == INDEXED:
                self._write_index(users, rows)
                users, rows = [], []
        self._write_index(users, rows)
        self._checked(lambda: self._db.put(INDEX_KEY, INDEX_FORMAT % self._forget, self._write))
        self._checked(self._db.flush)  # a kill soon after would have all of it done again
        self._indexed, self._from = True, expiry_index.PREFIX

    def _write_index(self, users: Sequence[bytes], rows: Sequence[bytes]) -> None:
        if users:
            batch = WriteBatch(raw_mode=True)
            for entry in expiry_index.entries(users, rows, 0, self._forget):
                batch.put(entry, b"")
            self._checked(lambda: self._db.write(batch, self._write))

    def _put(self, rows: Mapping[bytes, bytes | None], offset: int, more: Mapping[bytes, bytes | None]) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, row in chain(rows.items(), more.items()):
            if row is None:
                batch.delete(key)
            else:
                batch.put(key, row)
        batch.put(OFFSET_KEY, b"%d" % offset)
        self._checked(lambda: self._db.write(batch, self._write))

    def offset(self) -> int | None:
        """The next changelog offset to apply; None for an empty store."""
        stored = self._read(OFFSET_KEY)
        return None if stored is None else int(stored)

    def note_complete(self, now: int) -> None:
        """Note that the rows are all that the changelog holds, now (ms)."""
        self._checked(lambda: self._db.put(SEEN_KEY, b"%d" % now, self._write))

    def last_complete(self) -> int | None:
        """When the rows last were all that the changelog held (ms), as far as it was noted."""
        stored = self._read(SEEN_KEY)
        return None if stored is None else int(stored)

    @property
    def cached(self) -> int:
        """How many rows are in memory."""
        return len(self._cache) + len(self._changed)

    def scan(self, after: bytes | None, limit: int) -> list[bytes]:
        """Keys of written rows in order, after a key, at most limit; without reserved keys, which begin with NUL."""
        found: list[bytes] = []
        for key in self._keys(b"\x01" if after is None else after + b"\x00"):
            if len(found) == limit:
                break
            found.append(key)
        return found

    def _keys(self, start: bytes) -> Iterator[bytes]:
        """Keys in order from a key on."""
        for cursor in self._from_key(start):
            yield cursor.key()

    def _items(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        for cursor in self._from_key(start):
            yield cursor.key(), cursor.value()

    def _from_key(self, start: bytes) -> Iterator[Any]:
        """RocksDB's iterator, at each key from one on.

        rocksdict's own loops end at a damaged block as if it were the end of the rows; this one raises BrokenStore.
        """
        cursor = self._db.iter()
        cursor.seek(start)
        while cursor.valid():
            yield cursor
            cursor.next()
        self._checked(cursor.status)

    def close(self) -> None:
        """Flush and close; what was put and not written is dropped."""
        self._checked(self._db.flush)
        self._db.close()


def remove(path: Path) -> None:
    """Delete a store's folder, and the mark beside it."""
    shutil.rmtree(path, ignore_errors=True)
    _mark(path).unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename a broken store's folder, so that a new one can be made; returns the new name. The oldest of those that
    were set aside is deleted."""
    aside = sorted(path.parent.glob(f"{path.name}.aside-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    number = int(aside[-1].name.rpartition("-")[2]) + 1 if aside else 1
    for folder in aside[: len(aside) + 1 - KEPT_ASIDE]:
        shutil.rmtree(folder, ignore_errors=True)
    chosen = path.with_name(f"{path.name}.aside-{number}")
    path.rename(chosen)
    _mark(path).unlink(missing_ok=True)
    return chosen


def _mark(path: Path) -> Path:
    """The file beside a store that says why it is to be set aside."""
    return path.with_name(f"{path.name}.broken")


def _owner(meta: Meta) -> str:
    return f"partition {meta.partition} of {meta.partitions} of {meta.deployment!r}"


def block_cache(megabytes: int) -> Cache:
    """One block cache for all partitions of a worker."""
    return Cache(megabytes << 20)


def _options(cache: Cache | None) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(4 << 20)  # a worker has as many as partitions
    options.set_max_write_buffer_number(3)
    options.set_paranoid_checks(True)  # a damaged file fails the open; blocks are checked at each read anyway
    table = BlockBasedOptions()
    table.set_bloom_filter(10, False)
    if cache is not None:
        table.set_block_cache(cache)
    options.set_block_based_table_factory(table)
    return options
