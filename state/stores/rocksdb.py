"""The rows of one partition in three levels: changes that are not durable yet, a bounded cache, RocksDB.

The changelog topic is the log of the rows. RocksDB is written after the transaction, in one batch with the changelog
offset up to which its rows are current. So it can be behind the changelog, but never ahead of it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from state import expiry_index
from state.layout import LAYOUT
from state.stores.database import Database
from state.stores.row_cache import RowCache

if TYPE_CHECKING:
    from pathlib import Path

    from rocksdict import Cache

# Keys that begin with NUL are reserved: for the partition's progress, the expiry index, and these.
OFFSET_KEY = b"\x00\x00offset"  # the next changelog offset to apply
META_KEY = b"\x00\x00meta"
COMPLETE_KEY = b"\x00\x00seen"  # ms: when the rows were last known to be all that the changelog holds
INDEX_KEY = b"\x00\x00index"  # what the expiry index was built for; missing while it is incomplete
SWEPT_KEY = b"\x00\x00swept"  # ms: exits of the rows here are decided up to this time
INDEX_FORMAT = b"1:%d"  # format of the index, and the units after which users are forgotten
FIRST_USER_KEY = b"\x01"  # no user's key is smaller
INDEX_CHUNK = 1_000  # rows at a time when the index is built: takes some 5 ms, then others may run

_MISSING = object()


class Meta(msgspec.Struct, frozen=True):
    """Whose rows a store holds. A store of another deployment is refused."""

    deployment: str
    partition: int
    partitions: int
    layout: int = LAYOUT  # newest layout of the rows; each row names its own, and is converted when it is written
    changelog: str = ""  # id of the changelog topic; "" in stores of versions that did not store it


class ForeignStore(ValueError):
    """The folder holds rows of another deployment, or of a later layout."""


class LostChangelog(ValueError):
    """The rows are those of a deleted changelog topic; another topic has its name."""


class RowStore:
    """Reads look at the changes first, then at the cache, then in RocksDB. Changes stay in memory until they are
    durable in the changelog; `write_flush` then writes them to RocksDB.

    Any method may raise BrokenStore (state/stores/database.py) where files are damaged, and OSError.
    """

    def __init__(
        self, path: Path, meta: Meta, *, cache_rows: int, block_cache: Cache | None = None, forget_units: int = 1 << 30
    ) -> None:
        """Open or create the store in a folder.

        cache_rows: how many rows stay in memory. forget_units: units (five minutes) without an event after which a user
        is forgotten. ForeignStore, LostChangelog or BrokenStore where it cannot be used; the folder stays as it is.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._cache = RowCache(cache_rows)
        self._changed: dict[bytes, bytes | None] = {}  # rows not written yet
        self._index_changes: dict[bytes, bytes | None] = {}  # of the expiry index, not written yet
        self._next_due = expiry_index.PREFIX  # due() has returned all stored entries before this one
        self._forget_units = forget_units
        self._database = Database(path, block_cache)
        try:
            self._check_meta(meta)
            self._has_index = self._database.get(INDEX_KEY) == INDEX_FORMAT % forget_units
        except Exception:
            self._database.close()
            raise

    def _check_meta(self, meta: Meta) -> None:
        encoded = self._database.get(META_KEY)
        if encoded is None:
            if self.offset() is not None:
                raise ForeignStore(f"{self.path} holds rows, but does not say whose")
        else:
            try:
                stored = msgspec.json.decode(encoded, type=Meta)
            except msgspec.DecodeError:
                raise ForeignStore(f"{self.path} does not say whose rows it holds") from None
            expected_owner, owner = _owner(meta), _owner(stored)
            if owner != expected_owner:
                raise ForeignStore(f"{self.path} holds {owner}, expected {expected_owner}")
            if stored.layout > meta.layout:
                raise ForeignStore(
                    f"{self.path} holds rows of layout {stored.layout}, this version reads {meta.layout}"
                )
            if stored.changelog not in ("", meta.changelog):
                raise LostChangelog(f"{self.path} holds rows of another changelog topic of the same name")
        if encoded != (new_meta := msgspec.json.encode(meta)):
            self._database.put(META_KEY, new_meta)

    # -- reads --------------------------------------------------------------------------------------------------

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Rows in the order of the keys, None where there is none."""
        found = self._cache.get_many(keys)
        changed, missing = self._changed, []
        if changed:
            for i, key in enumerate(keys):
                if key in changed:
                    found[i] = changed[key]
                elif found[i] is None:
                    missing.append(i)
        else:
            missing = [i for i, row in enumerate(found) if row is None]
        if missing:
            stored = self._database.get_many([keys[i] for i in missing])
            for i, row in zip(missing, stored, strict=True):
                found[i] = row
            pairs = ((keys[i], row) for i, row in zip(missing, stored, strict=True) if row is not None)
            # Reserved keys are not cached, because a recovery writes them to RocksDB past the cache.
            self._cache.put_many({key: row for key, row in pairs if not _is_reserved(key)})
        return found

    def scan(self, after: bytes | None, limit: int) -> list[bytes]:
        """Keys of users in RocksDB in order, after a key (None: from the first), at most limit."""
        keys: list[bytes] = []
        for key in self._database.keys_from(FIRST_USER_KEY if after is None else after + b"\x00"):
            if len(keys) == limit:
                break
            keys.append(key)
        return keys

    def due(self, until: int, limit: int) -> list[bytes]:
        """Entries of the expiry index up to a time (units), at most limit. The caller removes them from the index.

        An entry is returned once. Entries that are put after this call must lie above `until`.
        """
        bound, index_changes = expiry_index.entry(until + 1, b""), self._index_changes
        entries = [entry for entry, value in index_changes.items() if value is not None and entry < bound][:limit]
        for entry in self._database.keys_from(self._next_due):
            if entry >= bound or len(entries) >= limit:
                break
            self._next_due = entry + b"\x00"
            if entry not in index_changes:
                entries.append(entry)
        return entries

    def offset(self) -> int | None:
        """The next changelog offset to apply; None for an empty store."""
        stored = self._database.get(OFFSET_KEY)
        return None if stored is None else int(stored)

    def last_complete(self) -> int | None:
        """When `note_complete` was last called (ms); None where it never was."""
        stored = self._database.get(COMPLETE_KEY)
        return None if stored is None else int(stored)

    @property
    def rows_in_memory(self) -> int:
        return len(self._cache) + len(self._changed)

    # -- writes -------------------------------------------------------------------------------------------------

    def put_many(self, rows: Mapping[bytes, bytes | None], index: Mapping[bytes, bytes | None] = {}) -> None:
        """Change rows (None deletes one) and entries of the expiry index (None deletes one), in memory only."""
        self._changed.update(rows)
        self._index_changes.update(index)

    def write_flush(
        self, rows: Mapping[bytes, bytes | None], offset: int, index: Mapping[bytes, bytes | None] = {}, swept: int = 0
    ) -> None:
        """Write the rows of a flush to RocksDB, once they are durable in the changelog.

        offset: the next changelog offset to apply. index: changes of the expiry index that belong to the rows. swept:
        time (ms) up to which exits are decided.
        """
        self._write(rows, offset, {**index, SWEPT_KEY: b"%d" % swept})
        # A row or entry that has changed again since the flush was cut stays among the changes.
        for entry, value in index.items():
            if self._index_changes.get(entry, _MISSING) is value:
                del self._index_changes[entry]
        changed, written = self._changed, {}
        for key, row in rows.items():
            if changed.get(key, row) is not row:
                continue
            changed.pop(key, None)
            if row is None or _is_reserved(key):
                self._cache.drop(key)
            else:
                written[key] = row
        self._cache.put_many(written)

    def apply(self, keys: Sequence[bytes], values: Sequence[bytes | None], offset: int) -> None:
        """Write changelog records during recovery; the last record of a key counts. offset: the next one to apply."""
        latest = dict(zip(keys, values, strict=True))
        users = {key: row for key, row in latest.items() if not _is_reserved(key)}
        self._write(latest, offset, self._index_changes_of(users) if self._has_index else {})

    def _write(self, rows: Mapping[bytes, bytes | None], offset: int, more: Mapping[bytes, bytes | None]) -> None:
        """One atomic batch, so that the offset always fits the rows."""
        self._database.write({**rows, **more, OFFSET_KEY: b"%d" % offset})

    def note_complete(self, now: int) -> None:
        """Store that at this time (ms) the rows are all that the changelog holds."""
        self._database.put(COMPLETE_KEY, b"%d" % now)

    def close(self) -> None:
        """Flush and close. Changes that were not written are lost."""
        self._database.flush()
        self._database.close()

    # -- expiry index -------------------------------------------------------------------------------------------

    def _index_changes_of(self, rows: Mapping[bytes, bytes | None]) -> dict[bytes, bytes | None]:
        """Changes of the expiry index for rows from the changelog.

        The entries of the rows that they replace are removed: the id of an erased user must not stay in the index.
        """
        changes: dict[bytes, bytes | None] = {}
        stored = self._database.get_many(list(rows))
        old_rows = {key: row for key, row in zip(rows, stored, strict=True) if row is not None}
        for key, row in old_rows.items():
            if rows[key] is None:
                changes |= dict.fromkeys(expiry_index.possible_entries(key, row, self._forget_units))
        swept = int(self._database.get(SWEPT_KEY) or 0)
        old_entries = expiry_index.entries(list(old_rows), list(old_rows.values()), swept, self._forget_units)
        changes |= dict.fromkeys(old_entries)
        new_rows = {key: row for key, row in rows.items() if row is not None}
        return changes | expiry_index.entries(list(new_rows), list(new_rows.values()), 0, self._forget_units)

    def build_index(self) -> Generator[int, None, None]:
        """Build the expiry index from the rows where it is not complete: after a recovery into an empty store, and
        where the time after which users are forgotten has changed.

        Yields after every INDEX_CHUNK rows how many are done. The rows must not change meanwhile. A caller that stops
        before the end closes the iterator before the store; the index is then built anew by the next call.
        """
        if self._has_index:
            return
        # Delete the key first: a process that ends during the build must not leave an index that counts as complete.
        self._database.delete(INDEX_KEY)
        self._database.delete_range(expiry_index.PREFIX, expiry_index.PREFIX + b"\xff" * 5)
        users: list[bytes] = []
        rows: list[bytes] = []
        count = 0
        # RocksDB keeps its folder locked until an iterator over it is closed, too
        with closing(self._database.items_from(FIRST_USER_KEY)) as items:
            for key, row in items:
                users.append(key)
                rows.append(row)
                if len(users) == INDEX_CHUNK:
                    self._write_index(users, rows)
                    count += len(users)
                    users, rows = [], []
                    yield count
        self._write_index(users, rows)
        self._database.put(INDEX_KEY, INDEX_FORMAT % self._forget_units)
        self._database.flush()  # without a write-ahead log a kill would lose the index
        self._has_index, self._next_due = True, expiry_index.PREFIX

    def _write_index(self, users: Sequence[bytes], rows: Sequence[bytes]) -> None:
        if users:
            entries = expiry_index.entries(users, rows, 0, self._forget_units)
            self._database.write(dict.fromkeys(entries, b""))


def _is_reserved(key: bytes) -> bool:
    return key[:1] == b"\x00"


def _owner(meta: Meta) -> str:
    return f"partition {meta.partition} of {meta.partitions} of {meta.deployment!r}"
