"""Plain flat JSON records to event columns, compiled.

`scan` makes of a record what `json_records.parse` and `event_columns.build` make of it, where the record is plain and
is accepted. Of every other record it says that it is not sure. Those two remain the definition of what a record is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state.compiled import compiled
from streams.schemas.event_batch import OTHER as OTHER_TYPE
from streams.schemas.event_batch import EventBatch, Ints, Reject
from streams.schemas.event_columns import ID_WITH_NUL, IDS, TEXTS
from streams.schemas.event_fields import FIELDS, LINE_LIMIT, QUANTITY_LIMIT, USER_LIMIT
from streams.schemas.json_scan import (
    DECIMAL,
    MINUS,
    NINE,
    NULL,
    POINT,
    TEXT,
    WHOLE,
    ZERO,
    Table,
    byte_at,
    find_fields,
    look_up,
    no_fields,
    word_table,
)
from streams.schemas.record_batch import RecordBatch
from streams.schemas.timestamps import LAST
from streams.schemas.xxh3 import LONGEST, PADDING, Words, words_of, xxh3_64

_CODES = {name: code for code, name in enumerate(FIELDS)}
_TIME, _TYPE, _USER = _CODES["event_time"], _CODES["event_type"], _CODES["user_id"]
_PRICE, _QUANTITY, _CURRENCY = _CODES["price"], _CODES["quantity"], _CODES["currency"]
_ID_FIELDS = np.array([_CODES[field] for field in IDS.values()])
_TEXT_FIELDS = np.array([_CODES[field] for field in TEXTS])
_DIGITS = 15  # a double holds every whole number of so many digits
_POWERS_OF_TEN = 10.0 ** np.arange(_DIGITS + 1)  # exact
_DAYS_OF_MONTH = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_NO_TIME = -1
_NO_HASH, _ONE, _LOW_HALF = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFF)
_ANY_TIME = np.iinfo(np.int64).max

# what is read of a record: the columns of an event, and where the user id stands
_EVENT = np.dtype(
    [
        ("time", "i8"),
        ("amount", "i8"),
        ("quantity", "i8"),
        ("ids", "u8", len(IDS)),
        ("texts", "u4", len(TEXTS)),
        ("type", "i1"),
        ("user_begin", "i8"),
        ("user_end", "i8"),
    ],
    align=True,
)


class ScanTables(NamedTuple):
    """The words of a source that a scan knows."""

    fields: Table  # indices into event_fields.FIELDS
    types: Table  # codes of event types
    currency: Table  # that of all prices


def scan_tables(fields: Mapping[str, str], types: Mapping[str, int], currency: str) -> ScanTables:
    """fields: the source's name of a field of FIELDS, where it differs. types: codes of event types."""
    codes = {fields.get(name, name): code for name, code in _CODES.items()}
    return ScanTables(word_table(codes), word_table(types), word_table({currency: 0}))


@dataclass(frozen=True, slots=True)
class Scan:
    """What is known of the n records of a fetch, one event each at most; put() adds what was parsed."""

    accepted: NDArray[np.bool_]  # (n,) by scan(): of which records it is sure. The others have entries without meaning
    users: list[bytes]  # n UTF-8 ids, empty where rejected
    columns: dict[str, NDArray[Any]]  # those of EventBatch's events, (n,) each
    reason: NDArray[np.uint8]  # (n,)
    rejects: dict[int, Reject]  # by index

    def put(self, index: Ints, parsed: EventBatch) -> None:
        """Put in what the records at index were parsed to, one event each at most."""
        indices, with_event = index.tolist(), index[parsed.record]
        self.accepted[with_event] = True
        for name, column in self.columns.items():
            column[with_event] = getattr(parsed, name)
        self.reason[index] = parsed.reason
        for i, user in zip(indices, parsed.users, strict=True):
            self.users[i] = user
        self.rejects.update({indices[i]: reject for i, reject in parsed.rejects.items()})

    def to_events(self, batch: RecordBatch, *, source: int, key_before: int) -> EventBatch:
        """The events of the fetch. source, key_before: as of `Schema.decode`."""
        newest = np.where(self.accepted, self.columns["time"], -1)
        columns = self.columns
        if self.rejects:
            columns = {name: column[self.accepted] for name, column in columns.items()}
        return EventBatch(
            users=self.users,
            offset=np.array(batch.offsets, np.int64),
            source=np.full(len(batch), source, np.int8),
            key=np.maximum.accumulate(np.r_[key_before, newest])[1:],
            reason=self.reason,
            rejects=self.rejects,
            record=np.flatnonzero(self.accepted),
            **columns,
        )


def scan(batch: RecordBatch, tables: ScanTables, *, ahead: int, max_bytes: int, now: int | None) -> Scan:
    """Read the plain records of a fetch. ahead, max_bytes: as of `Options`; now: as of `Schema.decode`."""
    n = len(batch)
    values, edges = _join(batch.values)
    if now is None:
        keys, key_edges, latest = b"", np.zeros(0, np.int64), np.full(n, _ANY_TIME)
    else:
        keys, key_edges = _join(batch.keys)
        latest = np.minimum(np.array(batch.timestamps, np.int64), now) + ahead
    sure, events = np.zeros(n, np.bool_), np.zeros(n, _EVENT)
    with np.errstate(over="ignore"):  # of hashes, where the loop runs as plain Python
        _read_events(
            words_of(values + PADDING),
            edges,
            _are_utf8(values, batch.values),
            words_of(keys + PADDING),
            key_edges,
            latest,
            max_bytes,
            tables.fields,
            tables.types,
            tables.currency,
            no_fields(len(FIELDS)),
            events,
            sure,
        )
    if now is None:
        spans = zip(events["user_begin"].tolist(), events["user_end"].tolist(), strict=True)
        users = [values[begin:end] for begin, end in spans]
    else:
        users = list(batch.keys)  # type: ignore[arg-type]  # of a record that is sure the user id is the key
    return Scan(sure, users, _columns(events), np.zeros(n, np.uint8), {})


def _join(texts: Sequence[bytes | None]) -> tuple[bytes, Ints]:
    """The texts one after the other, and where each begins and the last one ends, (n + 1,). None becomes empty: neither
    is a plain record or a user id."""
    try:
        joined = b"".join(texts)  # type: ignore[arg-type]
    except TypeError:
        return _join([text or b"" for text in texts])
    edges = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=edges[1:])  # type: ignore[arg-type]
    return joined, edges


def _are_utf8(joined: bytes, values: Sequence[bytes | None]) -> NDArray[np.bool_]:
    """Which values are UTF-8, (n,). joined: all of them.

    Where all together are UTF-8, no plain record has a part of a character only: its texts stand between quotes.
    """
    if _is_utf8(joined):
        return np.ones(len(values), np.bool_)
    return np.array([value is not None and _is_utf8(value) for value in values])


def _is_utf8(value: bytes) -> bool:
    if value.isascii():
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _columns(events: NDArray[np.void]) -> dict[str, NDArray[Any]]:
    """The columns of events (n,) _EVENT."""
    columns = {name: events[name] for name in ("time", "type", "amount", "quantity")}
    columns |= {name: events["ids"][:, i] for i, name in enumerate(IDS)}
    columns |= {name: events["texts"][:, i] for i, name in enumerate(TEXTS)}
    return {name: np.ascontiguousarray(column) for name, column in columns.items()}


@compiled
def _read_events(
    words: Words,
    edges: Ints,
    utf8: NDArray[np.bool_],
    keys: Words,
    key_edges: Ints,
    latest: Ints,
    max_bytes: int,
    names: Table,
    types: Table,
    currency: Table,
    fields: Any,
    events: Any,
    sure: Any,
) -> None:
    """Set events and sure (n,).

    edges (n + 1,): of the records in words. utf8 (n,): whether each is UTF-8. key_edges: of their keys; empty where
    keys need not be the user ids. latest (n,): the largest event time of each that is accepted.
    """
    found = fields[0]
    for i in range(len(sure)):
        begin, end = edges[i], edges[i + 1]
        sure[i] = (
            utf8[i]
            and end - begin <= max_bytes
            and find_fields(words, begin, end, names, found)
            and (len(key_edges) == 0 or _is_user(words, found, keys, key_edges[i], key_edges[i + 1]))
            and _read_event(words, found, types, currency, latest[i], events[i])
        )


@compiled
def _is_user(words: Words, fields: Any, keys: Words, begin: int, end: int) -> bool:
    """Whether the key from begin to end is the user id of the record."""
    user = fields["begin"][_USER]
    if fields["end"][_USER] - user != end - begin:
        return False
    same = True
    for i in range(end - begin):
        same = same and byte_at(keys, begin + i) == byte_at(words, user + i)
    return same


@compiled
def _read_event(words: Words, fields: Any, types: Table, currency: Table, latest: int, event: Any) -> bool:
    """Set the event of a record; False where a value is not plain, or could make the record a reject."""
    user, user_end = fields["begin"][_USER], fields["end"][_USER]
    if not _is_text(fields["kind"][_USER]) or not 0 < user_end - user <= USER_LIMIT:
        return False
    event["user_begin"], event["user_end"] = user, user_end
    time = _read_time(words, fields)
    if time == _NO_TIME or time > latest:
        return False
    event["time"] = time
    return (
        _read_type(words, fields, types, event)
        and _is_in_currency(words, fields, currency)
        and _read_amount(words, fields, event)
        and _read_hashes(words, fields, event)
    )


@compiled
def _is_text(kind: int) -> bool:
    """Whether a value is a text, or a number that stands for one."""
    return kind in (TEXT, WHOLE)


@compiled
def _read_type(words: Words, fields: Any, types: Table, event: Any) -> bool:
    begin, end = fields["begin"][_TYPE], fields["end"][_TYPE]
    if fields["kind"][_TYPE] != TEXT or not 0 < end - begin <= LONGEST:
        return False
    event["type"] = look_up(types, words, begin, end, OTHER_TYPE)
    return True


@compiled
def _is_in_currency(words: Words, fields: Any, currency: Table) -> bool:
    """Whether the record names no other currency."""
    kind = fields["kind"][_CURRENCY]
    if kind <= NULL:
        return True
    return kind == TEXT and look_up(currency, words, fields["begin"][_CURRENCY], fields["end"][_CURRENCY], -1) == 0


@compiled
def _read_amount(words: Words, fields: Any, event: Any) -> bool:
    """Set amount and quantity, as `event_columns.build` computes them."""
    price, quantity = 0.0, 1
    kind, begin, end = fields["kind"][_PRICE], fields["begin"][_PRICE], fields["end"][_PRICE]
    if kind in (WHOLE, DECIMAL) and end - begin <= _DIGITS + (kind == DECIMAL):
        price = _decimal(words, begin, end)
    elif kind > NULL:
        return False
    kind, begin, end = fields["kind"][_QUANTITY], fields["begin"][_QUANTITY], fields["end"][_QUANTITY]
    if kind == WHOLE and end - begin <= _DIGITS:
        quantity = _whole(words, begin, end)
    elif kind > NULL:
        return False
    amount = np.rint(price * 100.0) * quantity
    if price < 0 or abs(quantity) > QUANTITY_LIMIT or abs(amount) > LINE_LIMIT:
        return False
    event["amount"], event["quantity"] = np.int64(amount), quantity
    return True


@compiled
def _whole(words: Words, begin: int, end: int) -> int:
    """A whole number of at most _DIGITS digits."""
    negative = byte_at(words, begin) == MINUS
    value = 0
    for place in range(begin + negative, end):
        value = value * 10 + byte_at(words, place) - ZERO
    return -value if negative else value


@compiled
def _decimal(words: Words, begin: int, end: int) -> float:
    """The double nearest to a number of at most _DIGITS digits.

    Doubles hold the digits, as a whole number, and the power of ten exactly, so one division rounds once.
    """
    negative = byte_at(words, begin) == MINUS
    value, decimals, behind_point = 0, 0, False
    for place in range(begin + negative, end):
        byte = byte_at(words, place)
        if byte == POINT:
            behind_point = True
        else:
            value = value * 10 + byte - ZERO
            decimals += behind_point
    nearest = float(value) / _POWERS_OF_TEN[decimals]
    return -nearest if negative else nearest


@compiled
def _read_hashes(words: Words, fields: Any, event: Any) -> bool:
    """Set the hashes of ids and texts."""
    for i in range(len(_ID_FIELDS)):
        if not _can_hash(fields, _ID_FIELDS[i]):
            return False
        event["ids"][i] = _hash(words, fields, _ID_FIELDS[i])
        if event["ids"][i] == ID_WITH_NUL:
            return False
    for i in range(len(_TEXT_FIELDS)):
        if not _can_hash(fields, _TEXT_FIELDS[i]):
            return False
        number = _hash(words, fields, _TEXT_FIELDS[i])
        half = number & _LOW_HALF
        event["texts"][i] = _ONE if half == _NO_HASH and number != _NO_HASH else half
    return True


@compiled
def _can_hash(fields: Any, field: int) -> bool:
    kind = fields["kind"][field]
    return kind <= NULL or (_is_text(kind) and fields["end"][field] - fields["begin"][field] <= LONGEST)


@compiled
def _hash(words: Words, fields: Any, field: int) -> np.uint64:
    """64 bits of a text, 0 for none."""
    begin, size = fields["begin"][field], fields["end"][field] - fields["begin"][field]
    if fields["kind"][field] <= NULL or size == 0:
        return _NO_HASH
    number = xxh3_64(words, begin, size)
    return _ONE if number == _NO_HASH else number


@compiled
def _read_time(words: Words, fields: Any) -> int:
    """The event time in epoch ms; _NO_TIME where it is none, or is not written in one of the common ways."""
    begin, end = fields["begin"][_TIME], fields["end"][_TIME]
    if fields["kind"][_TIME] == TEXT:
        return _read_date(words, begin, end - begin)
    if fields["kind"][_TIME] != WHOLE or end - begin > _DIGITS:
        return _NO_TIME
    time = _whole(words, begin, end)
    return time if 0 <= time < LAST else _NO_TIME


@compiled
def _read_date(words: Words, begin: int, size: int) -> int:
    """2016-08-01T07:00:12Z, 2016-08-01T07:00:12.000Z or 2016-08-01T07:00:12 UTC, with T or a blank, as epoch ms."""
    if size != 20 and size != 23 and size != 24:
        return _NO_TIME
    between = byte_at(words, begin + 10)
    if between != ord("T") and between != ord(" "):
        return _NO_TIME
    if byte_at(words, begin + 4) != MINUS or byte_at(words, begin + 7) != MINUS:
        return _NO_TIME
    if byte_at(words, begin + 13) != ord(":") or byte_at(words, begin + 16) != ord(":"):
        return _NO_TIME
    ms = _read_fraction_and_zone(words, begin + 19, size - 19)
    year, month, day = _digits(words, begin, 4), _digits(words, begin + 5, 2), _digits(words, begin + 8, 2)
    hour, minute, second = _digits(words, begin + 11, 2), _digits(words, begin + 14, 2), _digits(words, begin + 17, 2)
    if min(ms, hour, minute, second) < 0 or hour > 23 or minute > 59 or second > 59:
        return _NO_TIME
    if year < 1970 or not 1 <= month <= 12:
        return _NO_TIME
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _DAYS_OF_MONTH[month] + (is_leap and month == 2):
        return _NO_TIME
    # days since the epoch in the proleptic Gregorian calendar, years counted from March
    year -= month <= 2
    days = 365 * year + year // 4 - year // 100 + year // 400
    days += (153 * ((month + 9) % 12) + 2) // 5 + day - 1 - 719_468
    return ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + ms


@compiled
def _read_fraction_and_zone(words: Words, begin: int, size: int) -> int:
    """The milliseconds of Z, .000Z or UTC behind a blank; below 0 where it is none of these."""
    if size == 1:
        return 0 if byte_at(words, begin) == ord("Z") else -1
    if size == 5:
        whole = byte_at(words, begin) == POINT and byte_at(words, begin + 4) == ord("Z")
        return _digits(words, begin + 1, 3) if whole else -1
    first, second = byte_at(words, begin) == ord(" "), byte_at(words, begin + 1) == ord("U")
    return (
        0
        if first and second and byte_at(words, begin + 2) == ord("T") and byte_at(words, begin + 3) == ord("C")
        else -1
    )


@compiled
def _digits(words: Words, begin: int, count: int) -> int:
    """The number that so many digits make; below 0 where one of them is no digit."""
    value = 0
    for place in range(begin, begin + count):
        byte = byte_at(words, place)
        if not ZERO <= byte <= NINE:
            return -1
        value = value * 10 + byte - ZERO
    return value
