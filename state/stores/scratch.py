"""Rows on the disk for as long as one command runs: for more users than fit into memory, and sorted by user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from state.stores.database import Database

if TYPE_CHECKING:
    from pathlib import Path

WRITE_ROWS = 50_000  # changed rows that are kept in memory: some 20 MB


class ScratchRows:
    """Has get_many, put_many, scan and due of RowStore (state/stores/rocksdb.py). A change is final at once. There is
    no expiry index, so no row is ever due.

    Any method may raise BrokenStore (state/stores/database.py) where files are damaged, and OSError.
    """

    def __init__(self, path: Path) -> None:
        """path: a folder that does not exist. The caller deletes it after close()."""
        self._database = Database(path)
        self._changed: dict[bytes, bytes | None] = {}  # rows not written yet

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Rows in the order of the keys, None where there is none."""
        changed = self._changed
        missing = [key for key in keys if key not in changed]
        stored = dict(zip(missing, self._database.get_many(missing), strict=True)) if missing else {}
        return [changed[key] if key in changed else stored[key] for key in keys]

    def put_many(self, rows: Mapping[bytes, bytes | None], index: Mapping[bytes, bytes | None] = {}) -> None:
        """Change rows (None deletes one). Entries of the expiry index are ignored."""
        self._changed.update(rows)
        if len(self._changed) >= WRITE_ROWS:
            self._write()

    def scan(self, after: bytes | None, limit: int) -> list[bytes]:
        """Keys of users in order, after a key (None: from the first), at most limit."""
        self._write()
        keys = self._database.keys_from(b"" if after is None else after + b"\x00")
        return [key for key, _ in zip(keys, range(limit), strict=False)]

    def due(self, until: int, limit: int) -> list[bytes]:
        """None: there is no expiry index."""
        return []

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All users with their rows, in the order of the users' bytes."""
        self._write()
        return self._database.items_from(b"")

    def _write(self) -> None:
        if self._changed:
            self._database.write(self._changed)
            self._changed = {}

    def close(self) -> None:
        self._database.close()
