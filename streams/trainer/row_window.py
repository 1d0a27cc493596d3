"""The newest training rows on the local disk: a ring buffer in a memory-mapped file, and the offset to read on from.

The topic is authoritative. A file that does not fit it (another topic, layout or size) is created anew. After a
crash the window continues from its last flush: rows that are read again take the same places as before.
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

JsonObject = dict[str, Any]
ROWS_FILE = "rows.bin"
HEADER_FILE = "rows.json"


class RowWindow:
    """At most `capacity` rows, whose raw features have `width` columns. Only one process can have the folder open."""

    def __init__(self, folder: Path, capacity: int, width: int, columns: int, topic: str) -> None:
        """columns: number of the layout. topic: id of the topic.

        StateError where the folder cannot be used, or another process uses it.
        """
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
        self._identity: JsonObject = {"topic": topic, "columns": columns, "width": width, "capacity": capacity}
        self._folder = folder
        self._count = 0  # rows ever put
        self.next_offset = 0  # of the topic: where reading continues
        self.notes: JsonObject = {}  # of the owner, written with the next flush
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
        path, size = self._folder / ROWS_FILE, self._capacity * self._dtype.itemsize
        header = self._read_header()
        if path.exists() and path.stat().st_size == size and {**header, **self._identity} == header:
            self._count, self.next_offset, self.notes = header["count"], header["next"], header["notes"]
        else:
            with path.open("wb") as file:
                # Reserve the space now: a write to a mapped file on a full disk would end the process with SIGBUS.
                os.posix_fallocate(file.fileno(), 0, size)
        self._data = np.memmap(path, self._dtype, "r+", shape=(self._capacity,))
        # Copies in memory, because learnable() reads these two columns every few seconds.
        self._offset, self._kind = self._data["offset"].copy(), self._data["kind"].copy()

    def _read_header(self) -> JsonObject:
        try:
            header = json.loads((self._folder / HEADER_FILE).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return header if isinstance(header, dict) else {}

    def __len__(self) -> int:
        return min(self._count, self._capacity)

    def resume(self, log_start: int, log_end: int) -> int:
        """The offset to read on from, in a log of these bounds. The window is emptied if it is beyond the log's end."""
        if self.next_offset > log_end:
            self._count, self.next_offset, self.notes = 0, 0, {}
        self.next_offset = max(self.next_offset, log_start)
        return self.next_offset

    def put(self, rows: TrainingRows, next_offset: int) -> None:
        """Append rows in log order. next_offset: the one after all records that were read."""
        n = len(rows)
        table = np.empty(n, self._dtype)
        for column in fields(TrainingRows):
            table[column.name] = getattr(rows, column.name)
        places = (self._count + np.arange(n)) % self._capacity
        newest = slice(max(0, n - self._capacity), n)  # of more rows than fit, only the last ones
        self._data[places[newest]] = table[newest]
        self._offset[places[newest]], self._kind[places[newest]] = table["offset"][newest], table["kind"][newest]
        self._count += n
        self.next_offset = next_offset

    def rows(self) -> TrainingRows:
        """All rows, in log order."""
        places = self._places()
        names = [column.name for column in fields(TrainingRows)]
        return TrainingRows(**{name: np.ascontiguousarray(self._data[name][places]) for name in names})

    def learnable(self, since: int = 0) -> int:
        """The number of rows of kind SAMPLE_ROW, from an offset on."""
        places = self._places()
        return int(np.count_nonzero((self._kind[places] == SAMPLE_ROW) & (self._offset[places] >= since)))

    def _places(self) -> Ints:
        """(rows,) places of the rows in the file, in log order."""
        places = np.arange(self._count - len(self), self._count) % self._capacity
        # After a crash the file may hold rows that were put after the last flush. They are read again.
        return places[self._offset[places] < self.next_offset]

    def flush(self) -> None:
        """Write to the disk: first the rows, then the header that describes them."""
        self._data.flush()
        header = self._identity | {"count": self._count, "next": self.next_offset, "notes": self.notes}
        self.write(HEADER_FILE, json.dumps(header).encode())

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the folder atomically."""
        staged = self._folder / f"{name}.new"
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(self._folder / name)

    def read(self, name: str) -> bytes | None:
        """The content of a file that write() wrote; None where there is none."""
        path = self._folder / name
        return path.read_bytes() if path.exists() else None

    def close(self) -> None:
        self.flush()
        self._lock.close()
