"""Rows of one partition in a dict: the store's interface without a disk, for backfills and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class MemoryStore:
    """get_many / put_many / scan as state/store.py has them."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        get = self.rows.get
        return [get(key) for key in keys]

    def put_many(self, rows: Mapping[bytes, bytes | None]) -> None:
        for key, row in rows.items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row

    def scan(self, after: bytes | None, limit: int) -> list[bytes]:
        keys = sorted(key for key in self.rows if key[:1] != b"\x00")
        return [key for key in keys if after is None or key > after][:limit]
