"""Dead letters as they are read, exported for repair, and judged before they are sent back. No IO.

A line of an export holds a letter; text where key and value are UTF-8, base64 where not:
{"letter": "0-15", "reason": ..., "detail": ..., "topic": ..., "partition": 0, "offset": 7, "timestamp": ...,
 "key": "42", "value": "{...}"}. A repaired line may hold the event as an object, too.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import msgspec

from streams.processing.rejects import VALUE_LIMIT
from streams.schemas.event_batch import EventBatch
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import Schema

SENT_BACK = "sent-back"  # header of a receipt: the letter that it is for


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter: its own place and time (ms), why the record was rejected, where it was, and its bytes."""

    partition: int
    offset: int
    time: int
    reason: str
    detail: str
    topic: str  # of the source; so are the next three
    source_partition: int
    source_offset: int
    timestamp: int  # ms
    key: bytes | None
    value: bytes | None
    length: int | None  # of the whole value, where it was cut

    @property
    def ident(self) -> str:
        return f"{self.partition}-{self.offset}"


class RepairedLine(msgspec.Struct):
    """A line of a repaired export: the dead letter that it is for, and the value to be sent."""

    letter: str
    topic: str
    partition: int
    offset: int
    value: Any = None
    value_base64: str | None = None

    def data(self) -> bytes | None:
        """The bytes to be sent; ValueError where base64 is none."""
        if self.value_base64 is not None:
            return base64.b64decode(self.value_base64, validate=True)
        if self.value is None:
            return None
        return self.value.encode() if isinstance(self.value, str) else msgspec.json.encode(self.value)


@dataclass(frozen=True, slots=True)
class RepairedRecord:
    """A record to be sent to its source."""

    letter: DeadLetter
    key: bytes
    value: bytes


def from_record(
    partition: int, offset: int, time: int, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
) -> DeadLetter | str | None:
    """A record of the topic: a dead letter, the ident of the one that a receipt is for, or None where it is neither."""
    texts = {name: data.decode("utf-8", "replace") for name, data in headers}
    if SENT_BACK in texts:
        return texts[SENT_BACK]
    try:
        length = int(texts["length"]) if "length" in texts else None
        return DeadLetter(
            partition,
            offset,
            time,
            texts["reason"],
            texts["detail"],
            texts["topic"],
            int(texts["partition"]),
            int(texts["offset"]),
            int(texts["timestamp"]),
            key,
            value,
            length,
        )
    except (KeyError, ValueError):
        return None


def to_json(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as JSON types, whole: a line of an export."""
    document: dict[str, Any] = {
        "letter": letter.ident,
        "time": letter.time,
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.source_partition,
        "offset": letter.source_offset,
        "timestamp": letter.timestamp,
    }
    if letter.length is not None:
        document["cut"] = {"held": VALUE_LIMIT, "length": letter.length}
    return document | _text("key", letter.key) | _text("value", letter.value)


def _text(name: str, data: bytes | None) -> dict[str, str | None]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def parse_export(lines: Iterable[bytes]) -> tuple[dict[int, RepairedLine], dict[int, str]]:
    """Repaired lines and faults, by line number from 1; blank lines are skipped."""
    repaired: dict[int, RepairedLine] = {}
    faults: dict[int, str] = {}
    decode = msgspec.json.Decoder(RepairedLine).decode
    line_of: dict[str, int] = {}  # of each dead letter
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = decode(text)
            line.data()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            faults[number] = "no line of an export"
        except binascii.Error:
            faults[number] = "value_base64 is no base64"
        else:
            first = line_of.setdefault(line.letter, number)
            if first != number:
                faults[number] = f"letter {line.letter} is that of line {first} too"
            elif line.value is not None and line.value_base64 is not None:
                faults[number] = "value and value_base64: give one of them"
            else:
                repaired[number] = line
    return repaired, faults


def check_repaired(
    lines: Mapping[int, RepairedLine], letters: Mapping[str, DeadLetter], schemas: Mapping[str, Schema], now: int
) -> tuple[list[RepairedRecord], dict[int, str]]:
    """What can be sent back, and the faults of what cannot, by line number.

    letters: those of the topic that the lines are for; schemas: by source topic; now: wall clock, ms. A record is
    decoded as the worker will; its key is its user id, whatever key it had. It is stamped with the wall clock: by its
    own time it might be over the source's retention before it is read.
    """
    records: list[RepairedRecord] = []
    faults: dict[int, str] = {}
    for number, line in lines.items():
        letter = letters.get(line.letter)
        if letter is None:
            faults[number] = f"letter {line.letter} is not among the dead letters (any more)"
        elif (line.topic, line.partition, line.offset) != (letter.topic, letter.source_partition, letter.source_offset):
            faults[number] = f"letter {line.letter} is another record's: from another deployment, or edited"
        elif line.topic not in schemas:
            faults[number] = "its topic is no source of these settings"
        elif letter.length is not None and line.data() == letter.value:
            faults[number] = f"cut: the letter holds {len(letter.value or b'')} of {letter.length} bytes"
        else:
            record = _decode(letter, line.data(), schemas[line.topic], now)
            if isinstance(record, RepairedRecord):
                records.append(record)
            else:
                faults[number] = record
    return records, faults


def _decode(letter: DeadLetter, value: bytes | None, schema: Schema, now: int) -> RepairedRecord | str:
    """The record to be sent, or why the worker would reject it."""

    def decode(key: bytes | None, clock: int | None) -> EventBatch:
        batch = RecordBatch(letter.topic, letter.source_partition, 0, 0, [0], [key], [value], [now])
        return schema.decode(batch, source=0, key_before=-1, now=clock)

    events = decode(None, None)  # without a clock no key is checked: the record says whose it is
    if not events.rejects:
        key = events.users[0]
        events = decode(key, now)
        if not events.rejects and value is not None:
            return RepairedRecord(letter, key, value)
    reject = events.rejects[0]
    return f"{reject.reason} ({reject.detail})" if reject.detail else reject.reason


def count_by_reason(letters: Sequence[DeadLetter], sent_back: Set[str]) -> list[dict[str, Any]]:
    """Dead letters by reason and source, most first, and how many of them were sent back. sent_back: their idents."""
    counts = Counter((letter.reason, letter.topic) for letter in letters)
    returned = Counter((letter.reason, letter.topic) for letter in letters if letter.ident in sent_back)
    return [
        {"reason": reason, "topic": topic, "count": number, "sent_back": returned[reason, topic]}
        for (reason, topic), number in counts.most_common()
    ]


def printable(data: bytes | None) -> str:
    """Bytes for a terminal: what is not printable is escaped."""
    if data is None:
        return "null"
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


Wanted = Callable[[DeadLetter], bool]


def wanted_letters(reasons: Sequence[str], since: int | None) -> Wanted:
    """A function that says whether a dead letter is asked for: of one of the reasons (any where there are none), not
    before since (ms)."""
    return lambda letter: (not reasons or letter.reason in reasons) and (since is None or letter.time >= since)
