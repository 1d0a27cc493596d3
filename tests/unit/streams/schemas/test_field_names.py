"""What a replay writes in a source's names is read as it was meant, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.config.factories import schema_of
from streams.config.settings import Settings, load
from streams.errors import DataError, SettingsError
from streams.offline.event_files import read_events
from streams.offline.replay import source_encoder
from streams.schemas.event_batch import EventBatch
from streams.schemas.record_batch import RecordBatch
from tests.support.events.month import month

RENAMED = {
    "name": "a",
    "fields": {"visitor": "user_id", "ts": "event_time", "kind": "event_type", "sku": "price"},
    "types": {"buy": "purchase", "view": "page_view", "item": "view", "gone": "refund", "refund": "nothing"},
}


def settings(*sources: dict[str, Any]) -> Settings:
    return load(environ={}, sources=list(sources))


def decoded(chosen: Settings, events: list[tuple[bytes, bytes]]) -> EventBatch:
    keys, values = map(list, zip(*events, strict=True))
    n = len(events)
    batch = RecordBatch("t", 0, 0, n - 1, list(range(n)), keys, values, [2**42] * n)  # type: ignore[arg-type]
    return schema_of(chosen.sources[0], chosen).decode(batch, source=0, key_before=0, now=2**42)


@pytest.mark.parametrize("source", [RENAMED | {"types": {"buy": "purchase"}}, {"name": "a", "schema": "rees46"}])
def test_the_same_events_come_out(source: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "month.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in month(5, visits=60)))
    chosen, plain = settings(source), settings({"name": "a"})
    there = [(one.key, one.value) for chunk in read_events(path, "shoal", source_encoder(chosen)) for one in chunk]
    before = [(one.key, one.value) for chunk in read_events(path, "shoal") for one in chunk]
    assert there != before
    ours, theirs = decoded(plain, before), decoded(chosen, there)
    assert not theirs.reason.any()
    for column in ("time", "type", "amount", "quantity", "event_id", "session", "order", "category"):
        assert (getattr(ours, column) == getattr(theirs, column)).all(), column
    assert ours.users == theirs.users


@pytest.mark.parametrize(
    ("kind", "theirs"), [("view", "item"), ("purchase", "purchase"), ("page_view", "page_view"), ("wave", "wave")]
)
def test_types_are_said_in_words_that_are_read_so(kind: str, theirs: str) -> None:
    source = RENAMED | {"types": {"buy": "purchase", "view": "page_view", "item": "view"}}
    event = {"user_id": "u", "event_time": 1, "event_type": kind, "visitor": "another"}
    assert source_encoder(settings(source))(False, event) == {"visitor": "u", "ts": 1, "kind": theirs}


def test_a_type_that_cannot_be_said_is_refused_with_its_event(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"user_id": 1, "event_time": 1, "event_type": "view"}\n' * 2)
    chosen = settings({"name": "a", "types": {"view": "search"}})
    with pytest.raises(DataError, match=r"a\.jsonl, event 1: .*'view'"):
        list(read_events(tmp_path / "a.jsonl", "shoal", source_encoder(chosen)))


@pytest.mark.parametrize(
    "source",
    [
        {"name": "a", "fields": {"x": "nope"}},
        {"name": "a", "types": {"x": "nope"}},
        {"name": "a", "fields": {"session_id": "user_id"}},
        {"name": "a", "fields": {"": "category"}},
    ],
)
def test_names_that_do_not_fit_are_refused(source: dict[str, Any]) -> None:
    chosen = settings(source)
    with pytest.raises(SettingsError, match="source a, fields and types"):
        schema_of(chosen.sources[0], chosen)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "user_id,event_time\n1,2\n" + "x" * 200_000 + ",2\n", "line 3: field larger"),
        ("a.jsonl", '{"user_id": 1}\n{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "line 2: nested too deep"),
    ],
)
def test_a_line_beyond_the_limits_is_named(name: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=told):
        list(read_events(tmp_path / name, "shoal"))
