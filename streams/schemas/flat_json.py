"""shoal's own schema, flat JSON, and schemas that differ from it by names only."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streams.schemas.event_batch import OTHER, REASONS, TYPES, EventBatch, Reject
from streams.schemas.record_batch import RecordBatch
from streams.schemas.timestamps import BAD, to_ms

_TEXT = str | int | None
FIELDS: dict[str, Any] = {
    "event_time": _TEXT,
    "event_type": str | None,
    "user_id": _TEXT,
    "event_id": _TEXT,
    "session_id": _TEXT,
    "transaction_id": _TEXT,
    "category": _TEXT,
    "brand": _TEXT,
    "price": float | None,
    "quantity": int | float | None,
    "currency": str | None,
    "country": _TEXT,
    "region": _TEXT,
    "city": _TEXT,
}
_IDS = {"event_id": "event_id", "session": "session_id", "order": "transaction_id"}  # column: field
_NUL = np.uint64(0xFFFFFFFFFFFFFFFF)  # stands for an id with a NUL in it
_HALF = ("category", "brand", "country", "region", "city")
LINE_LIMIT = 10**12  # minor units a line: beyond it a price is taken for a mistake
USER_LIMIT = 1024  # bytes
DEPTH = 64  # of nesting, in fields that are not ours: beyond it Python's recursion limit would be the judge
_STRINGS, _BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL), re.compile(rb"[\[\]{}]")
CODES = {reason: code for code, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True)
class Schema:
    """How a source's records are read."""

    name: str
    decode_one: Callable[[bytes], Any]
    route_one: Callable[[bytes], Any]  # user_id and event_time alone, for re-keying
    types: Mapping[str, int]
    currency: str
    ahead: int  # ms
    max_bytes: int


def schema(
    fields: Mapping[str, str] | None = None,
    types: Mapping[str, str] | None = None,
    *,
    name: str = "shoal",
    currency: str = "USD",
    ahead: int = 300_000,
    max_bytes: int = 65_536,
) -> Schema:
    """A schema whose fields and types may have other names: {their name: ours}; ValueError for one of ours
    that does not exist. Their event types without a mapping keep their names."""
    theirs = {ours: their for their, ours in (fields or {}).items()}
    unknown = set(theirs) - set(FIELDS)
    if unknown:
        raise ValueError(f"no such field: {', '.join(sorted(unknown))}")
    whole, route = (
        msgspec.json.Decoder(
            msgspec.defstruct(
                "Event",
                [(field, FIELDS[field], None) for field in names],
                rename={ours: their for ours, their in theirs.items() if ours in names} or None,
                gc=False,
            )
        ).decode
        for names in (tuple(FIELDS), ("user_id", "event_time"))
    )
    codes = {kind: code for code, kind in enumerate(TYPES)}
    for their, ours in (types or {}).items():
        if ours not in TYPES and ours != "other":
            raise ValueError(f"no such event type: {ours}")
        codes[their] = TYPES.index(ours) if ours in TYPES else OTHER
    return Schema(name, whole, route, codes, currency, ahead, max_bytes)


def decode(batch: RecordBatch, schema: Schema, *, source: int, key_before: int, now: int | None) -> EventBatch:
    """Columns of a fetch. now: wall clock in ms; None looks at no clock, not even the records' (backfill).

    A line is rint(price * 100) * quantity: the double nearest to the JSON number, times 100 in double
    arithmetic, rounded half to even. A record's merge key is the running maximum of accepted event times from
    key_before on.
    """
    n = len(batch.values)
    reasons: dict[int, tuple[str, str]] = {}
    events = parse(batch.values, schema.decode_one, schema.max_bytes, reasons)
    column = dict(zip(FIELDS, zip(*map(astuple, events), strict=True) if n else [()] * len(FIELDS), strict=True))
    users = users_of(column["user_id"], batch.keys, reasons, check_key=now is not None)
    time = to_ms(column["event_time"])
    _flag(time == BAD, "bad_time", "event_time", reasons)
    if now is not None:
        limit = np.minimum(np.array(batch.timestamps, np.int64), now) + schema.ahead
        _flag(time > limit, "time_ahead", "event_time", reasons)
    price = np.array(column["price"], np.float64)  # None becomes NaN, which JSON cannot hold
    price[np.isnan(price)] = 0.0
    quantity = _mapped(column["quantity"], _quantity, np.float64)
    _flag(np.isnan(quantity), "bad_quantity", "quantity", reasons)
    quantity[np.isnan(quantity)] = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        line = np.rint(price * 100.0) * quantity
    _flag(~(price >= 0) | ~(np.abs(line) <= LINE_LIMIT), "bad_price", "price", reasons)
    _flag(
        _mapped(column["currency"], lambda c: c is not None and c != schema.currency, np.bool_),
        "currency",
        "currency",
        reasons,
    )
    _flag(_mapped(column["event_type"], lambda t: t is None, np.bool_), "bad_type", "event_type", reasons)
    idents = {name: _mapped(column[field], _ident, np.uint64) for name, field in _IDS.items()}
    for name, field in _IDS.items():
        _flag(idents[name] == _NUL, "bad_type", field, reasons)

    reason = np.zeros(n, np.uint8)
    for i, (name, _) in reasons.items():
        reason[i], users[i], time[i], line[i] = CODES[name], b"", 0, 0
    key = np.maximum.accumulate(np.r_[key_before, np.where(reason == 0, time, -1)])[1:]
    return EventBatch(
        users=users,
        time=time,
        type=_mapped(column["event_type"], lambda t: schema.types.get(t, OTHER), np.int8),
        amount=line.astype(np.int64),
        quantity=quantity.astype(np.int64),
        **idents,
        **{name: _mapped(column[name], _half, np.uint32) for name in _HALF},
        offset=np.array(batch.offsets, np.int64),
        source=np.full(n, source, np.int8),
        key=key,
        reason=reason,
        rejects={i: Reject.of(batch, i, *why) for i, why in reasons.items()},
    )


def parse(
    values: Sequence[bytes | None], one: Callable[[bytes], Any], limit: int, reasons: dict[int, tuple[str, str]]
) -> list[Any]:
    """One struct a record; for a record that has none, a blank one and a reason. limit: bytes of a value."""
    if None not in values and max(map(len, values), default=0) <= limit:  # type: ignore[arg-type]
        whole = b"".join(values)  # type: ignore[arg-type]
        # few brackets, as in flat records; records that have none leave room for a deep one, which the except catches
        if whole.count(b"{") + whole.count(b"[") <= len(values) + DEPTH:
            try:
                return [one(value) for value in values]  # type: ignore[arg-type]
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # at least one is bad: look at each
    blank, events = one(b"{}"), []
    for i, value in enumerate(values):
        event = blank
        if value is None:
            reasons[i] = ("null_value", "")
        elif len(value) > limit:
            reasons[i] = ("too_large", f"{len(value)} bytes")
        elif _depth(value) > DEPTH:
            reasons[i] = ("not_json", "nested too deep")
        else:
            try:
                event = one(value)
            except msgspec.ValidationError as error:
                # the path names our field; the message could hold a value, so only the path is kept
                path = str(error).rpartition("`$")[2].strip("`.")
                name = "bad_price" if path == "price" and "range" in str(error) else "bad_type"
                reasons[i] = (name, path if path.isidentifier() else "")
            except (msgspec.DecodeError, UnicodeDecodeError):
                reasons[i] = ("not_json", "")
        events.append(event)
    return events


def _depth(value: bytes) -> int:
    """How deep brackets are nested; those inside strings count only where there are few."""
    if value.count(b"{") + value.count(b"[") <= DEPTH:
        return 1
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", value)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def users_of(
    idents: Sequence[str | int | None],
    keys: Sequence[bytes | None],
    reasons: dict[int, tuple[str, str]],
    *,
    check_key: bool,
) -> list[bytes]:
    """Ids in UTF-8; those that are none have a reason. check_key: whether the record's key must be the id."""
    plain = set(map(type, idents)) == {str}
    users = list(map(str.encode, idents)) if plain else [b"" if i is None else str(i).encode() for i in idents]  # type: ignore[arg-type]
    sizes = list(map(len, users))
    if (
        plain
        and min(sizes) > 0
        and max(sizes) <= USER_LIMIT
        and b"\0" not in b"".join(users)
        and not (check_key and users != keys)
    ):
        return users
    for i, user in enumerate(users):
        if user != keys[i] and check_key and user:
            reasons.setdefault(i, ("key_mismatch", "the record's key is not the user id"))
        if not user:
            reasons.setdefault(i, ("no_user", "user_id"))
        elif len(user) > USER_LIMIT or b"\0" in user:
            reasons[i] = ("bad_user", "user_id")
    return users


def _quantity(value: int | float | None) -> float:
    """NaN where it is not whole or beyond all reason."""
    if value is None:
        return 1.0
    return float(value) if abs(value) <= 10**9 and value == value // 1 else math.nan


def _flag(bad: NDArray[np.bool_], name: str, detail: str, reasons: dict[int, tuple[str, str]]) -> None:
    for i in np.flatnonzero(bad).tolist():
        reasons.setdefault(i, (name, detail))


def _mapped(values: Sequence[Any], function: Callable[[Any], Any], kind: type[Any]) -> NDArray[Any]:
    """function of each value, asked once for each different one."""
    table = dict.fromkeys(values)
    if len(table) == 1:
        return np.full(len(values), function(values[0]), kind)
    for value in table:
        table[value] = function(value)
    return np.fromiter(map(table.__getitem__, values), kind, len(values))


def _hash(value: str | int | None) -> int:
    """64 bits of a text, 0 for none."""
    if value is None or value == "":
        return 0
    return xxh3_64_intdigest(str(value).encode()) or 1


def _ident(value: str | int | None) -> int:
    return int(_NUL) if type(value) is str and "\0" in value else _hash(value)


def _half(value: str | int | None) -> int:
    whole = _hash(value)
    return whole & 0xFFFFFFFF or (1 if whole else 0)
