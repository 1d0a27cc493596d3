"""One partition's rows: changes not yet durable, over a bounded cache, over RocksDB.

The changelog is the log: RocksDB is written after the transaction, without a log of its own, together with the
changelog offset that it stands for, so it can be behind, never ahead.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

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

from state import expiry_index
from state.layout import LAYOUT
from state.stores.row_cache import RowCache

OFFSET_KEY = b"\x00\x00offset"  # next changelog offset that the rows stand for
META_KEY = b"\x00\x00meta"
SEEN_KEY = b"\x00\x00seen"  # ms: when the rows were last known to be all that the changelog holds
INDEX_KEY = b"\x00\x00index"  # what the due index was built for; none while it is not complete
SWEPT_KEY = b"\x00\x00swept"  # ms: up to where exits of the rows here are decided
INDEX_FORMAT = b"1:%d"  # the index's own format, and the units after which users are forgotten
INDEXED = 20_000  # rows at a time when it is built
KEPT_ASIDE = 2  # broken stores of a partition that are kept for whoever wants to look at them
BROKEN = ("Corruption", "IO error: No such file")  # how RocksDB begins when the files are at fault

_MISSING = object()
T = TypeVar("T")


class Meta(msgspec.Struct, frozen=True):
    """Whose rows these are; a store of another deployment is refused."""

    deployment: str
    partition: int
    partitions: int
    layout: int = LAYOUT  # rows carry their own too: an older store is read, and its rows upgraded as they are touched
    changelog: str = ""  # id of the changelog topic; "" where it was not noted


class ForeignStore(ValueError):
    """The folder holds another deployment's rows, or rows of a later layout."""


class LostChangelog(ValueError):
    """The rows stand for a changelog topic that is no longer there; another has its name."""


class BrokenStore(ValueError):
    """The files are damaged, by their checksums, or some are missing; the next open sets them aside."""


class RowStore:
    """get_many / put_many / written: read through the cache, hold changes, and write what is durable elsewhere."""

    def __init__(
        self, path: Path, meta: Meta, *, cache_rows: int, block_cache: Cache | None = None, forget: int = 1 << 30
    ) -> None:
        """Opens or begins the store; ForeignStore, LostChangelog or BrokenStore (path left as it is) otherwise."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._cache = RowCache(cache_rows)
        self._changed: dict[bytes, bytes | None] = {}  # not written yet
        self._index: dict[bytes, bytes | None] = {}  # changes of the due index, not written yet
        self._from = expiry_index.PREFIX  # entries before are done with
        self._forget = forget
        self._write = WriteOptions()
        self._write.disable_wal = True
        if _mark(path).exists():
            raise BrokenStore(_mark(path).read_text(encoding="utf-8"))
        self._db = self._sound(lambda: Rdict(str(path), _options(block_cache)))
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
            self._sound(lambda: self._db.put(META_KEY, mine_now, self._write))

    def _read(self, key: bytes) -> bytes | None:
        found: bytes | None = self._sound(lambda: self._db.get(key))
        return found

    def _sound(self, work: Callable[[], T]) -> T:
        """What RocksDB gives; where its files are at fault the store is marked for the next open."""
        try:
            return work()
        except Exception as error:  # rocksdict has no kinds of errors, only their text
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> Exception:
        text = str(error)
        if not text.startswith(BROKEN):
            return OSError(f"{self.path}: {text}")
        reason = f"{self.path}: {text.splitlines()[0]}"
        _mark(self.path).write_text(reason, encoding="utf-8")
        return BrokenStore(reason)

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
            found = self._sound(lambda: self._db.get([keys[i] for i in missing]))
            for i, row in zip(missing, found, strict=True):
                out[i] = row
            read = ((keys[i], row) for i, row in zip(missing, found, strict=True) if row is not None)
            # not the reserved ones: a recovery writes past the cache
            self._cache.put_many({key: row for key, row in read if key[:1] != b"\x00"})
        return out

    def put_many(self, rows: Mapping[bytes, bytes | None], index: Mapping[bytes, bytes | None] = {}) -> None:
        """Changed rows (None a tombstone) and entries of the due index (None: gone): held until they are written."""
        self._changed.update(rows)
        self._index.update(index)

    def due(self, until: int, limit: int) -> list[bytes]:
        """Entries of the due index up to an edge (units), at most limit; the caller takes them out. What is found is
        not found again, and entries put from now on lie above `until`."""
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
        """The rows of a flush are durable in the changelog up to offset (the next one): write them here too, with the
        index that goes with them and the time (ms) up to which their exits are decided."""
        self._put(rows, offset, {**index, SWEPT_KEY: b"%d" % swept})
        for entry, there in index.items():
            if self._index.get(entry, _MISSING) is there:
                del self._index[entry]
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
        latest = dict(zip(keys, values, strict=True))
        users = {key: row for key, row in latest.items() if key[:1] != b"\x00"}
        self._put(latest, offset, self._entries(users) if self._indexed else {})

    def _entries(self, rows: Mapping[bytes, bytes | None]) -> dict[bytes, bytes | None]:
        """Changes of the index for rows that recovery brings. What the rows here had is taken out: an erased user's id
        must not stay until its time comes."""
        index: dict[bytes, bytes | None] = {}
        here = self._sound(lambda: self._db.get(list(rows)))
        old = {key: row for key, row in zip(rows, here, strict=True) if row is not None}
        for key, row in old.items():
            if rows[key] is None:
                index |= dict.fromkeys(expiry_index.entry(at, key) for at in expiry_index.every(row, self._forget))
        swept = int(self._read(SWEPT_KEY) or 0)
        index |= dict.fromkeys(expiry_index.entries(list(old), list(old.values()), swept, self._forget))
        new = {key: row for key, row in rows.items() if row is not None}
        return index | expiry_index.entries(list(new), list(new.values()), 0, self._forget)

    def index(self) -> None:
        """Build the due index from the rows where it is not complete: after recovery into an empty store, and where
        users are forgotten after another time than when it was built."""
        if self._indexed:
            return
        # no longer complete, whatever it was built for: an end in between leaves it in pieces
        self._sound(lambda: self._db.delete(INDEX_KEY, self._write))
        first, end = expiry_index.PREFIX, expiry_index.PREFIX + b"\xff" * 5
        self._sound(lambda: self._db.delete_range(first, end, write_opt=self._write))
        users: list[bytes] = []
        rows: list[bytes] = []
        for key, row in self._items(b"\x01"):
            users.append(key)
            rows.append(row)
            if len(users) == INDEXED:
                self._write_index(users, rows)
                users, rows = [], []
        self._write_index(users, rows)
        self._sound(lambda: self._db.put(INDEX_KEY, INDEX_FORMAT % self._forget, self._write))
        self._sound(self._db.flush)  # a kill soon after would have all of it done again
        self._indexed, self._from = True, expiry_index.PREFIX

    def _write_index(self, users: Sequence[bytes], rows: Sequence[bytes]) -> None:
        if users:
            batch = WriteBatch(raw_mode=True)
            for entry in expiry_index.entries(users, rows, 0, self._forget):
                batch.put(entry, b"")
            self._sound(lambda: self._db.write(batch, self._write))

    def _put(self, rows: Mapping[bytes, bytes | None], offset: int, more: Mapping[bytes, bytes | None]) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, row in chain(rows.items(), more.items()):
            if row is None:
                batch.delete(key)
            else:
                batch.put(key, row)
        batch.put(OFFSET_KEY, b"%d" % offset)
        self._sound(lambda: self._db.write(batch, self._write))

    def offset(self) -> int | None:
        """The next changelog offset that the rows stand for; None for an empty store."""
        stored = self._read(OFFSET_KEY)
        return None if stored is None else int(stored)

    def see(self, now: int) -> None:
        """The rows are all that the changelog holds, now (ms)."""
        self._sound(lambda: self._db.put(SEEN_KEY, b"%d" % now, self._write))

    def seen(self) -> int | None:
        """When they last were (ms), as far as it was noted."""
        stored = self._read(SEEN_KEY)
        return None if stored is None else int(stored)

    @property
    def cached(self) -> int:
        """Rows in memory."""
        return len(self._cache) + len(self._changed)

    def scan(self, after: bytes | None, limit: int) -> list[bytes]:
        """Keys of written rows in order, after a key, at most limit; reserved keys (NUL first) are left out."""
        found: list[bytes] = []
        for key in self._keys(b"\x01" if after is None else after + b"\x00"):
            if len(found) == limit:
                break
            found.append(key)
        return found

    def _keys(self, start: bytes) -> Iterator[bytes]:
        """Keys in order from a key on."""
        for at in self._from_key(start):
            yield at.key()

    def _items(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        for at in self._from_key(start):
            yield at.key(), at.value()

    def _from_key(self, start: bytes) -> Iterator[Any]:
        """An iterator at each key. rocksdict's own end at a damaged block as at the end of the rows."""
        at = self._db.iter()
        at.seek(start)
        while at.valid():
            yield at
            at.next()
        self._sound(at.status)

    def close(self) -> None:
        self._sound(self._db.flush)
        self._db.close()


def remove(path: Path) -> None:
    """A store's folder goes, and the mark beside it."""
    shutil.rmtree(path, ignore_errors=True)
    _mark(path).unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """A broken store makes room under another name, which is returned; the oldest of those kept goes."""
    aside = sorted(path.parent.glob(f"{path.name}.aside-*"), key=lambda one: int(one.name.rpartition("-")[2]))
    number = int(aside[-1].name.rpartition("-")[2]) + 1 if aside else 1
    for one in aside[: len(aside) + 1 - KEPT_ASIDE]:
        shutil.rmtree(one, ignore_errors=True)
    chosen = path.with_name(f"{path.name}.aside-{number}")
    path.rename(chosen)
    _mark(path).unlink(missing_ok=True)
    return chosen


def _mark(path: Path) -> Path:
    """Beside a store: why it is to be set aside."""
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
