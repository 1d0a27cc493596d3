"""The records of one source partition in a file, as a topic would hold them: for files larger than the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from streams.offline.event_files import FileRecord

_LENGTH_BYTES = 8  # of the length that precedes what is appended at once
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[FileRecord]).decode


class RecordLog:
    """Written first, then read once from its start. The file exists only if there are records."""

    def __init__(self, path: Path) -> None:
        """path: of a file that does not exist."""
        self._path = path
        self.size = 0  # records

    def append(self, records: Sequence[FileRecord]) -> None:
        data = _encode(records)
        with self._path.open("ab") as file:  # not kept open: there is one for each source of each partition
            file.write(len(data).to_bytes(_LENGTH_BYTES, "little"))
            file.write(data)
        self.size += len(records)

    def chunks(self, size: int) -> Iterator[list[FileRecord]]:
        """The records in the order in which they were appended, at least size at a time but for the last."""
        chunk: list[FileRecord] = []
        if self.size:
            with self._path.open("rb") as file:
                while length := file.read(_LENGTH_BYTES):
                    chunk += _decode(file.read(int.from_bytes(length, "little")))
                    if len(chunk) >= size:
                        yield chunk
                        chunk = []
        if chunk:
            yield chunk

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)
