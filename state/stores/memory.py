"""Rows of one partition in a dict: a store without a disk, for backfills and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from state import expiry_index


class MemoryStore:
    """Has get_many, put_many, scan and due of RowStore (state/stores/rocksdb.py). A change is final at once."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.index: set[bytes] = set()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.rows.get(key) for key in keys]

    def put_many(self, rows: Mapping[bytes, bytes | None], index: Mapping[bytes, bytes | None] = {}) -> None:
        for entry, value in index.items():
            if value is None:
                self.index.discard(entry)
            else:
                self.index.add(entry)
        for key, row in rows.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row

    def scan(self, after: bytes | None, limit: int) -> list[bytes]:
        keys = sorted(key for key in self.rows if key[:1] != b"\x00")
        return [key for key in keys if after is None or key > after][:limit]

    def due(self, until: int, limit: int) -> list[bytes]:
        bound = expiry_index.entry(until + 1, b"")
        return sorted(entry for entry in self.index if entry < bound)[:limit]
