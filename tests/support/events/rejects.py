"""Records that are bad, each in its own way, and records that are odd, but good."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from streams.schemas.event_fields import FIELDS

AHEAD = 300_000  # ms that an event may lie ahead of the clocks
MARK = "qz7"  # part of each user id and value below: it may stand in no detail and no log


@dataclass(frozen=True)
class Record:
    """A record as it is sent; reason "" where it is accepted."""

    reason: str
    value: bytes | None
    key: bytes | None
    stamp: int  # record time, ms


def event(user: str, now: int, **other: object) -> dict[str, Any]:
    return {"event_time": now, "event_type": "view", "user_id": user, "category": MARK, "price": 1.25} | other


def spelled(user: str, now: int, field: str, text: str) -> bytes:
    """An event with one field in a spelling that json.dumps does not have."""
    head = json.dumps({name: value for name, value in event(user, now).items() if name != field})
    return f'{head[:-1]}, "{field}": {text}}}'.encode("utf-8", "surrogatepass")


def odd(user: str, now: int) -> dict[str, Record]:
    """Records of one user that are odd, but good."""
    good = json.dumps(event(user, now))
    bare = json.dumps(event(user, now, note=""))
    values = {
        "unknown type": json.dumps(event(user, now, event_type=f"wave {MARK}")),
        "unknown fields": json.dumps(event(user, now, note=MARK, more={"deep": [[MARK, 1.5, None]]})),
        "blanks around": f" \r\n\t{good}\n",
        "escapes": good.replace("q", "\\u0071"),
        "the last of two fields": f'{good[:-1]}, "user_id": {json.dumps(user)}}}',
        "just within the limit": bare.replace('"note": ""', f'"note": "{"x" * (65_536 - len(bare))}"'),
        "just within the clock": json.dumps(event(user, now + AHEAD)),
        "time as text": json.dumps(event(user, now, event_time="2020-02-29T23:59:59.999999+01:00")),
        "the first moment": json.dumps(event(user, 0)),
        "numbers as ids": json.dumps(event(user, now, event_id=10**30, session_id=-1, transaction_id=0)),
        "4,000 digits": spelled(user, now, "event_id", "9" * 4_000).decode(),
        "nulls": json.dumps(event(user, now, price=None, quantity=None, currency=None, session_id=None)),
        "a whole quantity": spelled(user, now, "quantity", "2.0e0").decode(),
        "nothing given back": spelled(user, now, "price", "-0.0").decode(),
    }
    records = {name: Record("", value.encode(), user.encode(), now) for name, value in values.items()}
    return records | {"a number for user": Record("", json.dumps(event(user, now, user_id=-42)).encode(), b"-42", now)}


def poison(user: str, now: int) -> dict[str, Record]:
    """Bad records of one user."""
    key = user.encode()
    good = json.dumps(event(user, now)).encode()

    def made(**other: object) -> bytes:
        return json.dumps(event(user, now, **other)).encode()

    def spelt(field: str, text: str) -> bytes:
        return spelled(user, now, field, text)

    values: dict[str, tuple[str, bytes | None]] = {
        "a tombstone": ("null_value", None),
        "empty": ("not_json", b""),
        "blank": ("not_json", b" \n"),
        "text": ("not_json", MARK.encode()),
        "cut short": ("not_json", good[:-1]),
        "two objects": ("not_json", good + good),
        "a NUL behind": ("not_json", good + b"\0"),
        "a BOM": ("not_json", b"\xef\xbb\xbf" + good),
        "UTF-16": ("not_json", good.decode().encode("utf-16")),
        "no UTF-8": ("not_json", b"\xff\xfe\xfd" + MARK.encode()),
        "no UTF-8 in a text": ("not_json", good.replace(b'", "price', b'\xff", "price')),
        "a lone surrogate": ("not_json", spelt("category", f'"{MARK}\\ud800"')),
        "a lone surrogate as bytes": ("not_json", spelt("category", f'"{MARK}\ud800"')),
        "a bare control character": ("not_json", spelt("category", f'"{MARK}\0"')),
        "nested 1,000 deep": ("not_json", spelt("note", "[" * 1_000 + f'"{MARK}"' + "]" * 1_000)),
        "objects 1,000 deep": ("not_json", spelt("note", '{"a":' * 1_000 + f'"{MARK}"' + "}" * 1_000)),
        "an array": ("bad_type", b"[" + good + b"]"),
        "a number": ("bad_type", b"17"),
        "a JSON text": ("bad_type", json.dumps(MARK).encode()),
        "a JSON null": ("bad_type", b"null"),
        "no user": ("no_user", json.dumps({k: v for k, v in event(user, now).items() if k != "user_id"}).encode()),
        "a null for user": ("no_user", made(user_id=None)),
        "an empty user": ("no_user", made(user_id="")),
        "the last of two users": ("key_mismatch", good[:-1] + f', "user_id": "{MARK} other"}}'.encode()),
        "just over the limit": ("too_large", good[:-1] + b', "note": "' + b"x" * (65_536 - len(good) - 11) + b'"}'),
        "2 MiB": ("too_large", made(note="x" * (2 << 20))),
        "nested 100,000 deep": ("too_large", spelt("note", "[" * 100_000 + "]" * 100_000)),
        "10,000 digits as price": ("bad_price", spelt("price", "9" * 10_000)),
    }
    for field in FIELDS:
        for text in ("true", "[]", f'["{MARK}"]', f'{{"{MARK}": 1}}'):
            values[f"{field} {text}"] = ("bad_type", spelt(field, text))
        if field != "price":
            values[f"{field} 10,000 digits"] = ("bad_type", spelt(field, "9" * 10_000))
        wrong = f'"{MARK}"' if field in ("price", "quantity") else "1.5"
        values[f"{field} {wrong}"] = ("bad_type", spelt(field, wrong))
    for field in ("event_id", "session_id", "transaction_id"):
        values[f"a NUL in {field}"] = ("bad_type", made(**{field: f"{MARK}\0"}))
    for text in (
        "null",
        '""',
        f'"{MARK}"',
        '"2024-02-30T00:00:00Z"',
        '"2024-05-01"',
        '"2024-05-01T12:00:00"',
        "-7",
        '"2024-05-01T24:00:00Z"',
        '"1969-12-31T23:59:59Z"',
        "253402300800000",
        "1" * 25,
        '"2024-05-01T12:00:0²Z"',
    ):
        values[f"time {text}"] = ("bad_time", spelt("event_time", text))
    for text in ("-0.01", "1e999", "-1e999", "1e300", "1e11", "1" * 400):
        values[f"price {text[:6]}"] = ("bad_price", spelt("price", text))
    for text in ("NaN", "Infinity", "-Infinity"):
        values[f"price {text}"] = ("not_json", spelt("price", text))
    for text in ("1.5", "-0.5", "1e300", "10000000000", "1" * 25):
        values[f"quantity {text[:6]}"] = ("bad_quantity", spelt("quantity", text))
    for text in ("EUR", "usd", "", MARK, "USD\0"):
        values[f"currency {text!r}"] = ("currency", made(currency=text))

    records = {name: Record(reason, value, key, now) for name, (reason, value) in values.items()}
    hour = 3_600_000
    return records | {
        "another key": Record("key_mismatch", good, f"{MARK} other".encode(), now),
        "a null key": Record("key_mismatch", good, None, now),
        "an empty key": Record("key_mismatch", good, b"", now),
        "a key that is no UTF-8": Record("key_mismatch", good, b"\xff" + key, now),
        "a NUL in the user": Record("bad_user", made(user_id=f"{user}\0"), key + b"\0", now),
        "a user of 1,025 bytes": Record("bad_user", made(user_id=user.ljust(1_025, "x")), key.ljust(1_025, b"x"), now),
        "a time ahead of the record": Record("time_ahead", made(event_time=now - hour + AHEAD + 1), key, now - hour),
        "a time ahead of the worker": Record("time_ahead", made(event_time=now + hour // 2), key, now + hour),
    }
