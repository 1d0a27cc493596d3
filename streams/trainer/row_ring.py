"""The newest training rows on the local disk: a ring in a memory-mapped file, and how far in the log it has read.

The topic is the truth. A file that does not fit it (another topic, layout or size) is begun anew, and one that was cut
short goes on from its last flush: rows read again fall into their own places.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from online_models.training_rows import SAMPLE_ROW, USER, Ints, TrainingRows
from streams.errors import StateError

Said = dict[str, Any]


class RowWindow:
    """At most `capacity` rows of raw width `width`; whoever has opened it is the only one until close()."""

    def __init__(self, folder: Path, capacity: int, width: int, columns: int, topic: str) -> None:
        """columns: the layout's number; topic: the id of the topic. StateError where the folder cannot be used or
        another process does."""
        self._dtype = np.dtype(
            [
                ("offset", "<i8"),
                ("now", "<i8"),
                ("kind", "i1"),
                ("user", USER),
                ("born", "<i8"),
                ("carts", "<i8"),
                ("orders", "<i8"),
                ("sessions", "<i8"),
                ("raw", "<f8", (width,)),
            ]
        )
        self._capacity = capacity
        self._is: Said = {"topic": topic, "columns": columns, "width": width, "capacity": capacity}
        self._folder, self._count, self.next = folder, 0, 0  # rows ever put; offset to read on from
        self.notes: Said = {}  # what the owner wants to find again, written with the next flush
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open()
        except BlockingIOError:
            raise StateError(f"{folder}: another process uses it") from None
        except OSError as error:
            raise StateError(f"{folder}: {error.strerror or error}") from None

    def _open(self) -> None:
        path, size = self._folder / "rows.bin", self._capacity * self._dtype.itemsize
        said = self._said()
        if path.exists() and path.stat().st_size == size and {**said, **self._is} == said:
            self._count, self.next, self.notes = said["count"], said["next"], said["notes"]
        else:
            with path.open("wb") as file:  # its room is taken now: a full disk later would kill without a word
                os.posix_fallocate(file.fileno(), 0, size)
        self._data = np.memmap(path, self._dtype, "r+", shape=(self._capacity,))
        # in memory too: they are asked for every few seconds
        self._offset, self._kind = self._data["offset"].copy(), self._data["kind"].copy()

    def _said(self) -> Said:
        try:
            said = json.loads((self._folder / "rows.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    def __len__(self) -> int:
        return min(self._count, self._capacity)

    def resume(self, first: int, end: int) -> int:
        """The offset to read on from, in a log from `first` to `end`; what lies beyond that end is not kept."""
        if self.next > end:
            self._count, self.next, self.notes = 0, 0, {}
        self.next = max(self.next, first)
        return self.next

    def put(self, rows: TrainingRows, after: int) -> None:
        """Take rows in log order; after: the offset that follows all that was read."""
        n = len(rows)
        part = np.empty(n, self._dtype)
        for one in fields(TrainingRows):
            part[one.name] = getattr(rows, one.name)
        at = (self._count + np.arange(n)) % self._capacity
        kept = slice(max(0, n - self._capacity), n)
        self._data[at[kept]] = part[kept]
        self._offset[at[kept]], self._kind[at[kept]] = part["offset"][kept], part["kind"][kept]
        self._count += n
        self.next = after

    def rows(self) -> TrainingRows:
        """All of them, in log order."""
        at = self._places()
        names = [column.name for column in fields(TrainingRows)]
        return TrainingRows(**{name: np.ascontiguousarray(self._data[name][at]) for name in names})

    def learnable(self, since: int = 0) -> int:
        """How many are of kind ROW, from an offset on."""
        at = self._places()
        return int(np.count_nonzero((self._kind[at] == SAMPLE_ROW) & (self._offset[at] >= since)))

    def _places(self) -> Ints:
        at = np.arange(self._count - len(self), self._count) % self._capacity
        return at[self._offset[at] < self.next]  # after a crash some places hold rows that come again

    def flush(self) -> None:
        """To the disk: first the rows, then what is said of them."""
        self._data.flush()
        said = self._is | {"count": self._count, "next": self.next, "notes": self.notes}
        self.write("rows.json", json.dumps(said).encode())

    def write(self, name: str, data: bytes) -> None:
        """A file of the folder as a whole or not at all."""
        new = self._folder / f"{name}.new"
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._folder / name)

    def read(self, name: str) -> bytes | None:
        """What write() wrote."""
        path = self._folder / name
        return path.read_bytes() if path.exists() else None

    def close(self) -> None:
        self.flush()
        self._lock.close()
