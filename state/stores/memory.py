"""Rows of one partition in a dict: the store's interface without a disk, for backfills and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from state.expiry_index import entry


class MemoryStore:
    """get_many, put_many, scan and due as RowStore has them (state/stores/rocksdb.py); a change is final at once."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.index: set[bytes] = set()

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        get = self.rows.get
        return [get(key) for key in keys]

    def put_many(self, rows: Mapping[bytes, bytes | None], index: Mapping[bytes, bytes | None] = {}) -> None:
        for key, there in index.items():
            (self.index.discard if there is None else self.index.add)(key)
        for key, row in rows.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row

    def scan(self, after: bytes | None, limit: int) -> list[bytes]:
        keys = sorted(key for key in self.rows if key[:1] != b"\x00")
        return [key for key in keys if after is None or key > after][:limit]

    def due(self, until: int, limit: int) -> list[bytes]:
        bound = entry(until + 1, b"")
        return sorted(key for key in self.index if key < bound)[:limit]
