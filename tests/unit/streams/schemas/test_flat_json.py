"""Bad records are rejects with a reason; their neighbours are unharmed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streams.schemas.event_batch import OTHER, REASONS
from streams.schemas.flat_json import FlatJson
from streams.schemas.record_batch import RecordBatch
from streams.schemas.rees46 import Rees46
from streams.schemas.schema import Options
from streams.schemas.timestamps import BAD, to_ms

NOW = 1_700_000_000_000
GOOD = {"event_time": NOW, "event_type": "purchase", "user_id": "u", "price": 1.25, "quantity": 2}
POISON: list[tuple[str, bytes | None]] = [
    ("null_value", None),
    ("not_json", b"\xff\xfe"),
    ("not_json", b"{"),
    ("not_json", b"{},{}"),
    ("not_json", json.dumps(GOOD).encode() + json.dumps(GOOD).encode()),
    ("bad_type", b"[]"),
    ("bad_type", b'{"event_time": true, "event_type": "view", "user_id": "u"}'),
    ("bad_type", json.dumps(GOOD | {"session_id": ["x"]}).encode()),
    ("bad_type", json.dumps(GOOD | {"session_id": "a\0b"}).encode()),
    ("no_user", json.dumps({k: v for k, v in GOOD.items() if k != "user_id"}).encode()),
    ("key_mismatch", json.dumps(GOOD | {"user_id": "v"}).encode()),
    ("bad_time", json.dumps(GOOD | {"event_time": "yesterday"}).encode()),
    ("bad_time", json.dumps(GOOD | {"event_time": "2023-02-29T00:00:00Z"}).encode()),
    ("time_ahead", json.dumps(GOOD | {"event_time": NOW + 300_001}).encode()),
    ("bad_price", json.dumps(GOOD | {"price": -0.01}).encode()),
    ("bad_price", json.dumps(GOOD | {"price": 1e300}).encode()),
    ("bad_price", json.dumps(GOOD).replace("1.25", "1e999").encode()),
    ("not_json", json.dumps(GOOD).replace("1.25", "NaN").encode()),
    ("bad_quantity", json.dumps(GOOD | {"quantity": 1.5}).encode()),
    ("currency", json.dumps(GOOD | {"currency": "EUR"}).encode()),
    ("too_large", json.dumps(GOOD | {"note": "x" * 70_000}).encode()),
    ("not_json", b'{"deep":' + b"[" * 1000 + b"]" * 1000 + b"}"),
]


def fetch(values: list[bytes | None], key: bytes = b"u") -> RecordBatch:
    n = len(values)
    return RecordBatch("clickstream", 0, 0, n - 1, list(range(n)), [key] * n, values, [NOW] * n)


@pytest.mark.parametrize(("reason", "value"), POISON)
def test_poison(reason: str, value: bytes | None) -> None:
    good = json.dumps(GOOD).encode()
    batch = FlatJson().decode(fetch([good, value, good]), source=0, key_before=-1, now=NOW)
    assert [REASONS[r] for r in batch.reason] == ["", reason, ""]
    assert batch.rejects[1].value == value
    assert batch.users == [b"u", b"", b"u"]
    assert (batch.amount.tolist(), batch.record.tolist()) == ([250, 250], [0, 2])


def test_nul_in_a_user_id() -> None:
    value = json.dumps(GOOD | {"user_id": "a\0"}).encode()
    batch = FlatJson().decode(fetch([value], b"a\0"), source=0, key_before=-1, now=NOW)
    assert REASONS[batch.reason[0]] == "bad_user"


def test_merge_key_is_the_running_maximum_of_accepted_times() -> None:
    times = [NOW - 10, NOW - 30, NOW + 999_999, NOW]
    values: list[bytes | None] = [json.dumps(GOOD | {"event_time": t}).encode() for t in times]
    batch = FlatJson().decode(fetch(values), source=0, key_before=NOW - 20, now=NOW)
    assert batch.key.tolist() == [NOW - 10, NOW - 10, NOW - 10, NOW]


def test_defaults_nulls_and_unknowns() -> None:
    values: list[bytes | None] = [
        json.dumps({"event_time": NOW, "event_type": "click", "user_id": 7, "price": None, "x": {"y": 1}}).encode()
    ]
    batch = FlatJson().decode(fetch(values, b"7"), source=0, key_before=-1, now=NOW)
    assert batch.users == [b"7"]
    assert (batch.amount.tolist(), batch.quantity.tolist(), batch.type.tolist()) == ([0], [1], [OTHER])


def test_mapping_and_rees46() -> None:
    mapped = FlatJson(
        Options(fields={"who": "user_id", "at": "event_time", "what": "event_type"}, types={"buy": "purchase"})
    )
    value = json.dumps({"who": "u", "at": "2023-11-14T22:13:20Z", "what": "buy", "price": 2}).encode()
    batch = mapped.decode(fetch([value]), source=0, key_before=-1, now=NOW)
    assert (batch.time.tolist(), batch.type.tolist(), batch.amount.tolist()) == ([NOW], [6], [200])
    value = json.dumps(
        {"user_id": "u", "event_time": "2023-11-14 22:13:20 UTC", "event_type": "cart", "user_session": "s"}
    ).encode()
    batch = Rees46().decode(fetch([value]), source=0, key_before=-1, now=NOW)
    assert (batch.time.tolist(), batch.type.tolist()) == ([NOW], [3])
    assert batch.session[0] != 0


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-02-29T12:00:00.123Z", 1_709_208_000_123),
        ("2024-02-29T12:00:00.123999Z", 1_709_208_000_123),
        ("2024-02-29T13:00:00+01:00", 1_709_208_000_000),
        ("2024-02-29 12:00:00 UTC", 1_709_208_000_000),
        ("2024-02-30T12:00:00Z", BAD),
        ("2024-02-29T25:00:00Z", BAD),
        ("2024-02-29", BAD),
        ("2024-02-29T12:00:00", BAD),
        ("1969-12-31T23:59:59Z", BAD),
        (5, 5),
        (-5, BAD),
        (None, BAD),
    ],
)
def test_times(text: object, ms: int) -> None:
    assert to_ms([text]).tolist() == [ms]
    assert to_ms([text, "2024-02-29T12:00:00.123Z"]).tolist() == [ms, 1_709_208_000_123]


def test_a_column_of_times_equals_one_by_one() -> None:
    rng = np.random.default_rng(0)
    texts = [str(np.datetime64(int(t), "ms")) + "Z" for t in rng.integers(0, 4_000_000_000_000, 500)]
    assert to_ms(texts).tolist() == [int(to_ms([t, 1])[0]) for t in texts]
