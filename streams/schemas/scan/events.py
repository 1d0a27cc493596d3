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
from streams.schemas.record_batch import RecordBatch
from streams.schemas.scan.fields import (
    DECIMAL,
    NULL,
    TEXT,
    WHOLE,
    Table,
    find_fields,
    look_up,
    no_fields,
    word_table,
)
from streams.schemas.scan.values import DIGITS, NO_TIME, decimal, read_time, whole
from streams.schemas.scan.words import PADDING, Words, byte_at, words_of
from streams.schemas.scan.xxh3 import LONGEST, xxh3_64

_CODES = {name: code for code, name in enumerate(FIELDS)}
_TIME, _TYPE, _USER = _CODES["event_time"], _CODES["event_type"], _CODES["user_id"]
_PRICE, _QUANTITY, _CURRENCY = _CODES["price"], _CODES["quantity"], _CODES["currency"]
_ID_FIELDS = np.array([_CODES[field] for field in IDS.values()])
_TEXT_FIELDS = np.array([_CODES[field] for field in TEXTS])
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
            and _read_event(words, found, types, currency, latest[i], events[i])
            and (len(key_edges) == 0 or _is_user(words, found, keys, key_edges[i], key_edges[i + 1]))
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
    time = read_time(words, fields["kind"][_TIME], fields["begin"][_TIME], fields["end"][_TIME])
    if time == NO_TIME or time > latest:
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
    if kind in (WHOLE, DECIMAL) and end - begin <= DIGITS + (kind == DECIMAL):
        price = decimal(words, begin, end)
    elif kind > NULL:
        return False
    kind, begin, end = fields["kind"][_QUANTITY], fields["begin"][_QUANTITY], fields["end"][_QUANTITY]
    if kind == WHOLE and end - begin <= DIGITS:
        quantity = whole(words, begin, end)
    elif kind > NULL:
        return False
    amount = np.rint(price * 100.0) * quantity
    if price < 0 or abs(quantity) > QUANTITY_LIMIT or abs(amount) > LINE_LIMIT:
        return False
    event["amount"], event["quantity"] = np.int64(amount), quantity
    return True


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
