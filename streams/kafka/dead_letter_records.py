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
class Letter:
    """A dead letter: its own place and time (ms), why, where the record was, and its bytes."""

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


class Repaired(msgspec.Struct):
    """A line of a repaired export: the letter that it is for, and the value to be sent."""

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
class Back:
    """A record to be sent to its source."""

    letter: Letter
    key: bytes
    value: bytes


def letter(
    partition: int, offset: int, time: int, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
) -> Letter | str | None:
    """A record of the topic: a letter, the ident of the one that a receipt is for, or None where it is neither."""
    found = {name: data.decode("utf-8", "replace") for name, data in headers}
    if SENT_BACK in found:
        return found[SENT_BACK]
    try:
        length = int(found["length"]) if "length" in found else None
        return Letter(
            partition,
            offset,
            time,
            found["reason"],
            found["detail"],
            found["topic"],
            int(found["partition"]),
            int(found["offset"]),
            int(found["timestamp"]),
            key,
            value,
            length,
        )
    except (KeyError, ValueError):
        return None


def line(one: Letter) -> dict[str, Any]:
    """A letter as JSON types, whole."""
    out: dict[str, Any] = {
        "letter": one.ident,
        "time": one.time,
        "reason": one.reason,
        "detail": one.detail,
        "topic": one.topic,
        "partition": one.source_partition,
        "offset": one.source_offset,
        "timestamp": one.timestamp,
    }
    if one.length is not None:
        out["cut"] = {"held": VALUE_LIMIT, "length": one.length}
    return out | _text("key", one.key) | _text("value", one.value)


def _text(name: str, data: bytes | None) -> dict[str, str | None]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def parse(lines: Iterable[bytes]) -> tuple[dict[int, Repaired], dict[int, str]]:
    """Repaired lines and faults, by line number from 1; blank lines are passed over."""
    found: dict[int, Repaired] = {}
    faults: dict[int, str] = {}
    decode = msgspec.json.Decoder(Repaired).decode
    seen: dict[str, int] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            one = decode(text)
            one.data()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            faults[number] = "no line of an export"
        except binascii.Error:
            faults[number] = "value_base64 is no base64"
        else:
            first = seen.setdefault(one.letter, number)
            if first != number:
                faults[number] = f"letter {one.letter} is that of line {first} too"
            elif one.value is not None and one.value_base64 is not None:
                faults[number] = "value and value_base64: give one of them"
            else:
                found[number] = one
    return found, faults


def judge(
    lines: Mapping[int, Repaired], letters: Mapping[str, Letter], schemas: Mapping[str, Schema], now: int
) -> tuple[list[Back], dict[int, str]]:
    """What can be sent back, and the faults of what cannot, by line number.

    letters: those of the topic that the lines are for; schemas: by source topic; now: wall clock, ms. An event is
    decoded as the worker will; its key is its user id, whatever key the record had. It is stamped with the wall clock:
    by its own time it might be over the source's retention before it is read.
    """
    good: list[Back] = []
    faults: dict[int, str] = {}
    for number, one in lines.items():
        held = letters.get(one.letter)
        if held is None:
            faults[number] = f"letter {one.letter} is not among the dead letters (any more)"
        elif (one.topic, one.partition, one.offset) != (held.topic, held.source_partition, held.source_offset):
            faults[number] = f"letter {one.letter} is another record's: from another deployment, or edited"
        elif one.topic not in schemas:
            faults[number] = "its topic is no source of these settings"
        elif held.length is not None and one.data() == held.value:
            faults[number] = f"cut: the letter holds {len(held.value or b'')} of {held.length} bytes"
        else:
            back = _decoded(held, one.data(), schemas[one.topic], now)
            if isinstance(back, Back):
                good.append(back)
            else:
                faults[number] = back
    return good, faults


def _decoded(held: Letter, value: bytes | None, schema: Schema, now: int) -> Back | str:
    """The record to be sent, or why the worker would reject it."""

    def decode(key: bytes | None, clock: int | None) -> EventBatch:
        batch = RecordBatch(held.topic, held.source_partition, 0, 0, [0], [key], [value], [now])
        return schema.decode(batch, source=0, key_before=-1, now=clock)

    events = decode(None, None)  # no key is looked at: it tells whose the event is
    if not events.rejects:
        key = events.users[0]
        events = decode(key, now)
        if not events.rejects and value is not None:
            return Back(held, key, value)
    reject = events.rejects[0]
    return f"{reject.reason} ({reject.detail})" if reject.detail else reject.reason


def count(letters: Iterable[Letter], back: Set[str]) -> list[dict[str, Any]]:
    """Letters by reason and source, most first, and how many of them were sent back."""
    letters = list(letters)
    found = Counter((one.reason, one.topic) for one in letters)
    returned = Counter((one.reason, one.topic) for one in letters if one.ident in back)
    return [
        {"reason": at[0], "topic": at[1], "count": number, "sent_back": returned[at]}
        for at, number in found.most_common()
    ]


def printable(data: bytes | None) -> str:
    """Bytes for a terminal: what is not printable is escaped."""
    if data is None:
        return "null"
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


Keep = Callable[[Letter], bool]


def keep(reasons: Sequence[str], since: int | None) -> Keep:
    """Whether a letter is asked for: one of the reasons (any where there are none), not before since (ms)."""
    return lambda one: (not reasons or one.reason in reasons) and (since is None or one.time >= since)
