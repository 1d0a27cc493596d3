"""Event files: CSV or JSON lines, plain or .gz, as records for Kafka in shoal's own schema."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from streams.errors import DataError
from streams.schemas.rees46 import FIELDS, TYPES
from streams.schemas.timestamps import BAD, to_ms

CHUNK = 5_000
_NUMBERS = {"price": float, "quantity": int}


class Line(NamedTuple):
    """One event of a file: the record that stands for it."""

    key: bytes
    value: bytes
    timestamp: int  # ms, event time
    bought: bool  # for `purchases`; the rest is for `clickstream`


Spell = Callable[[bool, dict[str, Any]], dict[str, Any]]


def lines(path: Path, schema: str, spell: Spell | None = None) -> Iterator[list[Line]]:
    """The events in the order of the file, in chunks. schema "shoal" or "rees46" (which is turned into shoal's).

    spell: (bought, event) to the event as its source has it; ValueError where that has no names for it.
    DataError names the file and the line that cannot be read.
    """
    encode = msgspec.json.encode
    chunk: list[Line] = []
    events: list[dict[str, Any]] = []
    number = 0

    def flush() -> list[Line]:
        times = to_ms([event.get("event_time") for event in events])
        for back, (event, time) in enumerate(zip(events, times.tolist(), strict=True)):
            if time == BAD or event.get("user_id") in (None, ""):
                raise DataError(f"{path}, event {number - len(events) + back + 1}: no event_time or user_id")
            bought = event.get("event_type") in ("purchase", "refund")
            try:
                value = encode(spell(bought, event) if spell else event)
            except ValueError as error:
                raise DataError(f"{path}, event {number - len(events) + back + 1}: {error}") from None
            chunk.append(Line(str(event["user_id"]).encode(), value, time, bought))
        events.clear()
        out = list(chunk)
        chunk.clear()
        return out

    for event in _events(path):
        number += 1
        events.append(_rees46(event) if schema == "rees46" else event)
        if len(events) == CHUNK:
            yield flush()
    if events:
        yield flush()


def _rees46(event: dict[str, Any]) -> dict[str, Any]:
    out = {FIELDS[name]: value for name, value in event.items() if name in FIELDS}
    out["event_time"] = str(out.get("event_time", "")).replace(" UTC", "Z").replace(" ", "T")
    out["event_type"] = TYPES.get(out.get("event_type", ""), out.get("event_type"))
    out["product_id"] = event.get("product_id")
    if not out.get("category"):
        out["category"] = event.get("category_id")
    return {name: value for name, value in out.items() if value is not None}


def _events(path: Path) -> Iterator[dict[str, Any]]:
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
