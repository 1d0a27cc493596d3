"""Dead letters as values: read, written out whole, judged as the worker will judge them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from streams.config.settings import load
from streams.kafka.dead_letter_records import (
    DeadLetter,
    RepairedLine,
    RepairedRecord,
    check_repaired,
    from_record,
    parse_export,
    printable,
    to_json,
    wanted_letters,
)
from streams.kafka.dead_letter_topic import schemas
from streams.processing.rejects import VALUE_LIMIT, dead_letter
from streams.schemas.event_batch import Reject
from streams.schemas.flat_json import FlatJson
from streams.schemas.rees46 import Rees46
from tests.support.events.rejects import event, poison

NOW = 1_722_470_400_000
SCHEMAS = {"clicks": FlatJson(), "cart": Rees46()}


def kept(value: bytes | None, key: bytes | None = b"u", reason: str = "bad_time", topic: str = "clicks") -> DeadLetter:
    """What the topic holds of a record that was rejected."""
    found_key, found, headers = dead_letter(Reject(reason, "event_time", topic, 3, 17, NOW - 5, key, value))
    found_letter = from_record(1, 9, NOW, found_key, found, headers)
    assert isinstance(found_letter, DeadLetter)
    return found_letter


def judged(held: DeadLetter, **change: Any) -> RepairedRecord | str:
    """The letter's own line, changed, as a file would bring it."""
    lines, faults = parse_export([json.dumps(to_json(held) | change).encode()])
    assert not faults
    good, bad = check_repaired(lines, {held.ident: held}, SCHEMAS, NOW)
    return good[0] if good else bad[1]


@pytest.mark.parametrize("record", poison("user", NOW).values())
def test_a_line_holds_the_record_whole(record: Any) -> None:
    if record.value is None or len(record.value) <= VALUE_LIMIT:
        held = kept(record.value, record.key, record.reason)
        text = json.dumps(to_json(held)).encode()
        assert msgspec.json.decode(text, type=RepairedLine).data() == record.value
        assert (held.key, held.value, held.length) == (record.key, record.value, None)


@pytest.mark.parametrize("record", [r for r in poison("user", NOW).values() if r.reason != "key_mismatch"])
def test_what_is_bad_still_is_refused_with_the_workers_reason(record: Any) -> None:
    held = kept(record.value, record.key, record.reason)
    told = judged(held)
    if record.reason == "time_ahead":  # of the record's clock alone it is ahead no more
        assert isinstance(told, RepairedRecord) == (json.loads(record.value)["event_time"] < NOW)
    elif held.length is not None:
        assert told == f"cut: the letter holds {VALUE_LIMIT} of {held.length} bytes"
    else:
        assert isinstance(told, str)
        assert told.split(" ")[0] == record.reason


def test_the_key_becomes_the_user() -> None:
    value = json.dumps(event("anna", NOW - 77)).encode()
    back = judged(kept(value, b"another", "key_mismatch"))
    assert isinstance(back, RepairedRecord)
    assert (back.key, back.value) == (b"anna", value)
    cart = {"event_time": NOW - 5, "event_type": "cart", "user_id": 42, "user_session": "s"}
    back = judged(kept(b"bad", b"x", "not_json", "cart"), value=cart)
    assert isinstance(back, RepairedRecord)
    assert (back.key, json.loads(back.value)) == (b"42", cart)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"value": None}, "null_value"),
        ({"value": {"user_id": "u"}}, "bad_time (event_time)"),
        ({"value": event("u", NOW + 300_001)}, "time_ahead (event_time)"),
        ({"value": 7}, "bad_type"),
        ({"offset": 18}, "letter 1-9 is another record's"),
        ({"topic": "cart"}, "letter 1-9 is another record's"),
        ({"letter": "1-10"}, "letter 1-10 is not among"),
        ({"value_base64": "eA==", "value": None}, "not_json"),
    ],
)
def test_refusals(change: dict[str, Any], told: str) -> None:
    found = judged(kept(json.dumps(event("u", NOW)).encode()), **change)
    assert isinstance(found, str)
    assert found.startswith(told)


def test_a_source_that_is_none_any_more_and_a_cut_value_made_whole() -> None:
    assert judged(kept(b"{}", topic="gone")) == "its topic is no source of these settings"
    cut = kept(json.dumps(event("u", NOW, note="x" * 600_000)).encode(), reason="too_large")
    assert isinstance(judged(cut, value=event("u", NOW)), RepairedRecord)


def test_what_is_rekeyed_goes_back_to_where_it_came_from() -> None:
    sources = [{"name": "clicks", "rekey_from": "shop-clicks", "fields": {"who": "user_id"}}, {"name": "buys"}]
    known = schemas(load(environ={}, prefix="p-", sources=sources))
    assert set(known) == {"p-clicks", "shop-clicks", "p-buys"}
    held = kept(b"{}", None, "no_user", "shop-clicks")
    value = {"event_time": NOW, "event_type": "view", "who": "anna"}
    lines, _ = parse_export([json.dumps(to_json(held) | {"value": value}).encode()])
    (back,), _ = check_repaired(lines, {held.ident: held}, known, NOW)
    assert (back.letter.topic, back.key) == ("shop-clicks", b"anna")


def test_receipts_strangers_and_filters() -> None:
    assert from_record(0, 1, NOW, None, b"", [("sent-back", b"0-0")]) == "0-0"
    assert from_record(0, 1, NOW, None, b"x", []) is None
    assert from_record(0, 1, NOW, None, b"x", [("reason", b"x"), ("offset", b"y")]) is None
    held = kept(b"")
    assert wanted_letters((), None)(held)
    assert wanted_letters(("bad_time",), NOW)(held)
    assert not wanted_letters(("bad_type",), None)(held)
    assert not wanted_letters((), NOW)(replace(held, time=NOW - 1))


def test_files_that_are_no_export() -> None:
    good = json.dumps(to_json(kept(b"{}"))).encode()
    lines, faults = parse_export([b"\n", good, b"nonsense", b'{"letter": 1}', b"\xff", good, b"[" * 100_000])
    assert list(lines) == [2]
    assert list(faults) == [3, 4, 5, 6, 7]
    assert faults[6] == "letter 1-9 is that of line 2 too"
    _, faults = parse_export([json.dumps(to_json(kept(b"{}")) | {"value_base64": "?"}).encode()])
    assert faults == {1: "value_base64 is no base64"}
    _, faults = parse_export([json.dumps(to_json(kept(b"\xff")) | {"value": "{}"}).encode()])
    assert faults == {1: "value and value_base64: give one of them"}


def test_what_a_terminal_shows_is_printable() -> None:
    assert printable("ä\x1b[31m\n\u202e".encode() + b"\xff") == "ä\\x1b[31m\\n\\u202e\\xff"
    assert printable(None) == "null"
