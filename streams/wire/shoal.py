"""shoal's own schema, flat JSON, and schemas that differ from it by names only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streams.records import RecordBatch
from streams.wire.events import OTHER, REASONS, TYPES, EventBatch, Reject
from streams.wire.times import BAD, to_ms

_TEXT = str | int | None
FIELDS: dict[str, Any] = {
    "event_time": _TEXT, "event_type": str | None, "user_id": _TEXT, "event_id": _TEXT, "session_id": _TEXT,
    "transaction_id": _TEXT, "category": _TEXT, "brand": _TEXT, "price": float | None,
    "quantity": int | float | None, "currency": str | None, "country": _TEXT, "region": _TEXT, "city": _TEXT,
}  # fmt: skip
_IDS = ("event_id", "session_id", "transaction_id")
LINE_LIMIT = 10**12  # minor units a line: beyond it a price is taken for a mistake
USER_LIMIT = 1024  # bytes
_CODE = {reason: code for code, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True)
class Schema:
    """How a source's records are read."""

    name: str
    decode_one: Callable[[bytes], Any]
    types: Mapping[str, int]
    currency: str
    ahead: int  # ms
    max_bytes: int


def schema(
    fields: Mapping[str, str] | None = None, types: Mapping[str, str] | None = None, *, name: str = "shoal",
    currency: str = "USD", ahead: int = 300_000, max_bytes: int = 65_536,
) -> Schema:  # fmt: skip
    """A schema whose fields and types may have other names: {their name: ours}; ValueError for one of ours
    that does not exist. Their event types without a mapping keep their names."""
    theirs = {ours: their for their, ours in (fields or {}).items()}
    unknown = set(theirs) - set(FIELDS)
    if unknown:
        raise ValueError(f"no such field: {', '.join(sorted(unknown))}")
    struct = msgspec.defstruct(
        "Event", [(field, kind, None) for field, kind in FIELDS.items()], rename=theirs or None, gc=False
    )
    codes = {kind: code for code, kind in enumerate(TYPES)}
    for their, ours in (types or {}).items():
        if ours not in TYPES and ours != "other":
            raise ValueError(f"no such event type: {ours}")
        codes[their] = TYPES.index(ours) if ours in TYPES else OTHER
    return Schema(name, msgspec.json.Decoder(struct).decode, codes, currency, ahead, max_bytes)


def decode(batch: RecordBatch, schema: Schema, *, source: int, key_before: int, now: int | None) -> EventBatch:
    """Columns of a fetch. now: wall clock in ms; None looks at no clock, not even the records' (backfill).

    A line is rint(price * 100) * quantity: the double nearest to the JSON number, times 100 in double
    arithmetic, rounded half to even. A record's merge key is the running maximum of accepted event times from
    key_before on.
    """
    n = len(batch.values)
    reasons: dict[int, tuple[str, str]] = {}
    events = _parse(batch.values, schema, reasons)
    users = _users(events, batch.keys, reasons, check_key=now is not None)
    time = to_ms([e.event_time for e in events])
    _flag(time == BAD, "bad_time", "event_time", reasons)
    if now is not None:
        limit = np.minimum(np.array(batch.timestamps, np.int64), now) + schema.ahead
        _flag(time > limit, "time_ahead", "event_time", reasons)
    price = np.array([e.price or 0.0 for e in events], np.float64)
    quantity = _quantities([e.quantity for e in events], reasons)
    with np.errstate(over="ignore", invalid="ignore"):
        line = np.rint(price * 100.0) * quantity
    _flag(~(price >= 0) | ~(np.abs(line) <= LINE_LIMIT), "bad_price", "price", reasons)
    for i, e in enumerate(events):
        if e.currency is not None and e.currency != schema.currency:
            reasons.setdefault(i, ("currency", "currency"))
    if any(v is not None and b"\\u0000" in v for v in batch.values):
        for i, e in enumerate(events):
            if any(isinstance(x := getattr(e, field), str) and "\0" in x for field in _IDS):
                reasons.setdefault(i, ("bad_type", "NUL in an id"))
    code = schema.types.get
    kind = np.fromiter([code(e.event_type, OTHER) for e in events], np.int8, n)
    _flag(np.fromiter([e.event_type is None for e in events], bool, n), "bad_type", "event_type", reasons)

    reason = np.zeros(n, np.uint8)
    for i, (name, _) in reasons.items():
        reason[i], users[i], time[i], line[i] = _CODE[name], b"", 0, 0
    memo: dict[object, int] = {None: 0}
    key = np.maximum.accumulate(np.r_[key_before, np.where(reason == 0, time, -1)])[1:]
    return EventBatch(
        users=users, time=time, type=kind, amount=line.astype(np.int64), quantity=quantity.astype(np.int64),
        event_id=_hashes([e.event_id for e in events], {None: 0}),
        session=_hashes([e.session_id for e in events], memo),
        order=_hashes([e.transaction_id for e in events], memo),
        category=_halves([e.category for e in events], memo), brand=_halves([e.brand for e in events], memo),
        country=_halves([e.country for e in events], memo), region=_halves([e.region for e in events], memo),
        city=_halves([e.city for e in events], memo),
        offset=np.array(batch.offsets, np.int64), source=np.full(n, source, np.int8), key=key, reason=reason,
        rejects={
            i: Reject(name, detail, batch.topic, batch.partition, batch.offsets[i], batch.timestamps[i],
                      batch.keys[i], batch.values[i])
            for i, (name, detail) in reasons.items()
        },
    )  # fmt: skip


def _parse(values: Sequence[bytes | None], schema: Schema, reasons: dict[int, tuple[str, str]]) -> list[Any]:
    """One struct a record; for a record that has none, a blank one and a reason."""
    one, limit = schema.decode_one, schema.max_bytes
    if None not in values and max(map(len, values), default=0) <= limit:  # type: ignore[arg-type]
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
            except RecursionError:
                reasons[i] = ("not_json", "nested too deep")
        events.append(event)
    return events


def _users(
    events: Sequence[Any], keys: Sequence[bytes | None], reasons: dict[int, tuple[str, str]], *, check_key: bool
) -> list[bytes]:
    users = []
    for i, event in enumerate(events):
        ident = event.user_id
        user = ident.encode() if type(ident) is str else b"" if ident is None else str(ident).encode()
        if user != keys[i] and check_key and user:
            reasons.setdefault(i, ("key_mismatch", "the record's key is not the user id"))
        if not user:
            reasons.setdefault(i, ("no_user", "user_id"))
        elif len(user) > USER_LIMIT or b"\0" in user:
            reasons[i] = ("bad_user", "user_id")
        users.append(user)
    return users


def _quantities(values: Sequence[int | float | None], reasons: dict[int, tuple[str, str]]) -> NDArray[np.float64]:
    out = np.ones(len(values))
    for i, value in enumerate(values):
        if value is not None:
            if value != value // 1 or abs(value) > 10**9:
                reasons.setdefault(i, ("bad_quantity", "quantity"))
            else:
                out[i] = value
    return out


def _flag(bad: NDArray[np.bool_], name: str, detail: str, reasons: dict[int, tuple[str, str]]) -> None:
    for i in np.flatnonzero(bad).tolist():
        reasons.setdefault(i, (name, detail))


def _hashes(values: Sequence[object], memo: dict[object, int]) -> NDArray[np.uint64]:
    get = memo.get
    out = []
    for value in values:
        hashed = get(value)
        if hashed is None:
            hashed = xxh3_64_intdigest(str(value).encode()) or 1 if value != "" else 0
            memo[value] = hashed
        out.append(hashed)
    return np.array(out, np.uint64)


def _halves(values: Sequence[object], memo: dict[object, int]) -> NDArray[np.uint32]:
    whole = _hashes(values, memo)
    half = (whole & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return np.where((half == 0) & (whole != 0), np.uint32(1), half)
