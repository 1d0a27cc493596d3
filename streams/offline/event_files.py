"""Event files: CSV or JSON lines, plain or .gz, as records for Kafka."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from streams.errors import DataError
from streams.schemas.registry import SCHEMAS
from streams.schemas.schema import Options
from streams.schemas.timestamps import BAD, to_ms

CHUNK = 5_000  # records
BOUGHT = ("purchase", "refund")  # event types of the second source
_NUMBERS = {"price": float, "quantity": int}
Events = list[dict[str, Any]]
Encode = Callable[[bool, dict[str, Any]], dict[str, Any]]  # (bought, event in shoal's own fields) to a record


class FileRecord(NamedTuple):
    """A record for Kafka that a row of a file, or one event of it, is turned into."""

    key: bytes  # user id
    value: bytes
    timestamp: int  # ms, event time
    bought: bool  # for `purchases`; the rest is for `clickstream`


def read_events(path: Path, schema: str, encode: Encode | None = None) -> Iterator[list[FileRecord]]:
    """A record for each event, in the order of the file, in chunks. schema: of the file, a name of the registry.

    encode: an event to the record of the source that it is for; ValueError where there is none. Without it the records
    are in shoal's own schema. DataError names the file and the row that cannot be read.
    """
    reader = SCHEMAS[schema].make(Options())

    def records() -> Iterator[tuple[int, Events, dict[str, Any]]]:
        for number, row in enumerate(_rows(path), 1):
            for event in reader.own_events(reader.file_record(row)):
                yield number, [event], event

    return _chunks(path, records(), encode)


def read_records(path: Path, schema: str) -> Iterator[list[FileRecord]]:
    """A record for each row, in the schema of the file. What `read_events` says holds, but for rows without events:
    they are left out."""
    reader = SCHEMAS[schema].make(Options())

    def records() -> Iterator[tuple[int, Events, dict[str, Any]]]:
        for number, row in enumerate(_rows(path), 1):
            record = reader.file_record(row)
            if events := reader.own_events(record):
                yield number, events, record

    return _chunks(path, records(), None)


def count_events(path: Path, schema: str) -> int:
    """How many records `read_events` gives."""
    return sum(map(len, read_events(path, schema)))


def _chunks(
    path: Path, records: Iterable[tuple[int, Events, dict[str, Any]]], encode: Encode | None
) -> Iterator[list[FileRecord]]:
    """Finish records, which are given as (number of the row, events, content)."""
    pending: list[tuple[int, Events, dict[str, Any]]] = []
    for record in records:
        pending.append(record)
        if len(pending) == CHUNK:
            yield _finished(path, pending, encode)
            pending = []
    if pending:
        yield _finished(path, pending, encode)


def _finished(
    path: Path, pending: Sequence[tuple[int, Events, dict[str, Any]]], encode: Encode | None
) -> list[FileRecord]:
    times = iter(to_ms([event.get("event_time") for _, events, _ in pending for event in events]).tolist())
    finished = []
    for number, events, content in pending:
        event_times = [next(times) for _ in events]
        user = events[0].get("user_id")
        if BAD in event_times or user in (None, ""):
            raise DataError(f"{path}, event {number}: no event_time or user_id")
        bought = all(event.get("event_type") in BOUGHT for event in events)
        try:
            value = msgspec.json.encode(encode(bought, content) if encode else content)
        except ValueError as error:
            raise DataError(f"{path}, event {number}: {error}") from None
        finished.append(FileRecord(str(user).encode(), value, max(event_times), bought))
    return finished


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with _open(path) as stream:
            name = path.name.removesuffix(".gz")
            if name.endswith(".csv"):
                yield from _csv(path, stream)
            else:
                decode = msgspec.json.Decoder(dict[str, Any]).decode
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        try:
                            yield decode(line)
                        except msgspec.DecodeError as error:
                            raise DataError(f"{path}, line {number}: {error}") from None
                        except RecursionError:
                            raise DataError(f"{path}, line {number}: nested too deep") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}") from None


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _csv(path: Path, stream: BinaryIO) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(io.TextIOWrapper(stream, "utf-8", newline=""))
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:  # a field over the limit; its line is not counted yet
            raise DataError(f"{path}, line {reader.line_num + 1}: {error}") from None
        if row is None:
            return
        event: dict[str, Any] = {name: value for name, value in row.items() if value and name}
        for name, kind in _NUMBERS.items():
            if name in event:
                try:
                    number = kind(event[name])
                    if math.isfinite(number):  # else the text stays, and is rejected: JSON has no infinity
                        event[name] = number
                except ValueError:
                    raise DataError(f"{path}, line {reader.line_num}: {name} is no number") from None
        yield event
