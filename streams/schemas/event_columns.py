"""Values as they came to columns: the checks and conversions that all schemas share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streams.schemas.event_batch import CODES, OTHER, TYPES, EventBatch, Ints, Reasons, Reject
from streams.schemas.event_fields import LINE_LIMIT, QUANTITY_LIMIT, USER_LIMIT
from streams.schemas.record_batch import RecordBatch
from streams.schemas.timestamps import BAD, to_ms

IDS = {"event_id": "event_id", "session": "session_id", "order": "transaction_id"}  # column: field
ID_WITH_NUL = np.uint64(0xFFFFFFFFFFFFFFFF)  # stands for an id with a NUL in it
TEXTS = ("category", "brand", "country", "region", "city")  # columns and fields


def type_codes(types: Mapping[str, str]) -> dict[str, int]:
    """Codes by the names of event types in a source. types: theirs to shoal's; others keep their names.

    ValueError where shoal has no such type.
    """
    codes = {name: code for code, name in enumerate(TYPES)}
    for theirs, ours in types.items():
        if ours not in TYPES and ours != "other":
            raise ValueError(f"no such event type: {ours}")
        codes[theirs] = TYPES.index(ours) if ours in TYPES else OTHER
    return codes


def build(
    batch: RecordBatch,
    users: Sequence[str | int | None],
    fields: Mapping[str, Sequence[Any]],
    record: Ints | None,
    reasons: Reasons,
    *,
    types: Mapping[str, int],
    currency: str,
    ahead: int,
    source: int,
    key_before: int,
    now: int | None,
) -> EventBatch:
    """The events of a fetch of n records, of which m events are made; bad values are added to reasons.

    users (n,): the user id of each record. fields: m values each, by names of `event_fields.FIELDS` (but for the user
    id), of the types that stand there; a field that a schema does not have is left out. record (m,): the index of each
    event's record, not decreasing; None where each record has one event. reasons: records that are rejects already. One
    bad event makes its record a reject. types: codes of event types. ahead: ms. source, key_before, now: as of
    `Schema.decode`.

    An amount is rint(price * 100) * quantity: the double nearest to the JSON number, times 100 in double arithmetic,
    rounded half to even.
    """
    n = len(batch)
    of_event = np.arange(n) if record is None else record
    m = len(of_event)

    def column(field: str) -> Sequence[Any]:
        return fields[field] if field in fields else [None] * m

    def flag(bad: NDArray[np.bool_], reason: str, field: str) -> None:
        for i in of_event[np.flatnonzero(bad)].tolist():
            reasons.setdefault(i, (reason, field))

    ids = read_users(users, batch.keys, reasons, check_key=now is not None)
    time = to_ms(column("event_time"))
    flag(time == BAD, "bad_time", "event_time")
    if now is not None:
        latest = np.minimum(np.array(batch.timestamps, np.int64), now) + ahead
        flag(time > latest[of_event], "time_ahead", "event_time")
    price = np.array(column("price"), np.float64)  # None becomes NaN, which JSON cannot hold
    price[np.isnan(price)] = 0.0
    quantity = _mapped(column("quantity"), _quantity, np.float64)
    flag(np.isnan(quantity), "bad_quantity", "quantity")
    quantity[np.isnan(quantity)] = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        amount = np.rint(price * 100.0) * quantity
    flag(~(price >= 0) | ~(np.abs(amount) <= LINE_LIMIT), "bad_price", "price")
    flag(_mapped(column("currency"), lambda c: c is not None and c != currency, np.bool_), "currency", "currency")
    flag(_mapped(column("event_type"), lambda t: t is None, np.bool_), "bad_type", "event_type")
    hashes = {name: _mapped(column(field), _ident, np.uint64) for name, field in IDS.items()}
    for name, field in IDS.items():
        flag(hashes[name] == ID_WITH_NUL, "bad_type", field)

    reason = np.zeros(n, np.uint8)
    for i, (name, _) in reasons.items():
        reason[i], ids[i] = CODES[name], b""
    with np.errstate(invalid="ignore"):  # of rejects, which are left out below
        columns = {
            "record": of_event,
            "time": time,
            "type": _mapped(column("event_type"), lambda t: types.get(t, OTHER), np.int8),
            "amount": amount.astype(np.int64),
            "quantity": quantity.astype(np.int64),
            **hashes,
            **{name: _mapped(column(name), _half, np.uint32) for name in TEXTS},
        }
    if reasons:
        accepted = np.flatnonzero(reason[of_event] == 0)
        columns = {name: values[accepted] for name, values in columns.items()}
    newest = np.full(n, -1)
    np.maximum.at(newest, columns["record"], columns["time"])
    return EventBatch(
        users=ids,
        offset=np.array(batch.offsets, np.int64),
        source=np.full(n, source, np.int8),
        key=np.maximum.accumulate(np.r_[key_before, newest])[1:],
        reason=reason,
        rejects={i: Reject.of(batch, i, *why) for i, why in reasons.items()},
        **columns,
    )


def read_users(
    values: Sequence[str | int | None], keys: Sequence[bytes | None], reasons: Reasons, *, check_key: bool
) -> list[bytes]:
    """User ids in UTF-8, one a record; what is none gets a reason. check_key: whether the record's key must be the
    id."""
    plain = set(map(type, values)) == {str}
    users = list(map(str.encode, values)) if plain else [b"" if v is None else str(v).encode() for v in values]  # type: ignore[arg-type]
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
    return float(value) if abs(value) <= QUANTITY_LIMIT and value == value // 1 else math.nan


def _mapped(values: Sequence[Any], function: Callable[[Any], Any], kind: type[Any]) -> NDArray[Any]:
    """function of each value, called once for each different one."""
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
    return int(ID_WITH_NUL) if type(value) is str and "\0" in value else _hash(value)


def _half(value: str | int | None) -> int:
    whole = _hash(value)
    return whole & 0xFFFFFFFF or (1 if whole else 0)
