"""What holds for every schema of the registry, and where its names are known."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cli.backfill import backfill
from streams.cli.replay import replay
from streams.config.settings import Settings, load
from streams.errors import SettingsError
from streams.schemas.event_batch import EVENT_COLUMNS
from streams.schemas.flat_json import FlatJson
from streams.schemas.record_batch import RecordBatch
from streams.schemas.registry import DEFAULT, SCHEMAS
from streams.schemas.schema import Options, Schema
from tests.support.order_lines import OrderLines

NOW = 1_700_000_000_000
EVENT = {"user_id": "u", "event_time": NOW, "event_type": "purchase", "price": 2.5, "category": "c"}
CHOSEN: dict[str, Schema] = {name: made.make(Options()) for name, made in SCHEMAS.items()} | {"orders": OrderLines()}
schemas = pytest.mark.parametrize("schema", CHOSEN.values(), ids=CHOSEN)


def fetch(*values: bytes | None) -> RecordBatch:
    count = len(values)
    return RecordBatch("t", 0, 0, count - 1, list(range(count)), [b"u"] * count, list(values), [NOW] * count)


@schemas
def test_an_event_is_decoded_as_it_was_encoded(schema: Schema) -> None:
    record = schema.encode(EVENT)
    batch = schema.decode(fetch(json.dumps(record).encode()), source=0, key_before=-1, now=NOW)
    ours = FlatJson().decode(fetch(json.dumps(EVENT).encode()), source=0, key_before=-1, now=NOW)
    assert not batch.rejects
    for column in (*EVENT_COLUMNS, "record", "key"):
        assert (getattr(batch, column) == getattr(ours, column)).all(), column
    (event,) = schema.own_events(record)
    assert {name: event[name] for name in EVENT} == EVENT
    routed = schema.route(fetch(json.dumps(record).encode()), key_before=-1, now=NOW)
    assert (routed.users, routed.key.tolist()) == ([b"u"], [NOW])


@schemas
@given(values=st.lists(st.one_of(st.none(), st.binary(max_size=9), st.just(b"{}"), st.just(b'{"lines": 1}'))))
def test_no_record_raises_an_error(schema: Schema, values: list[bytes | None]) -> None:
    batch = schema.decode(fetch(*values), source=0, key_before=7, now=NOW)
    assert len(batch) == len(values)
    assert set(batch.rejects) == set(range(len(values)))  # none of them names a user
    assert len(batch.record) == 0
    assert batch.key.tolist() == [7] * len(values)
    routed = schema.route(fetch(*values), key_before=7, now=NOW)
    assert routed.key.tolist() == [7] * len(values)


def test_the_names_are_those_of_settings_and_commands() -> None:
    member: dict[str, Any] = Settings.model_json_schema()["$defs"]["SourceSettings"]["properties"]["schema"]
    assert (member["enum"], member["default"]) == (list(SCHEMAS), DEFAULT)
    for command in (backfill, replay):
        (option,) = [param for param in command.params if param.name == "schema"]
        assert isinstance(option.type, click.Choice)
        assert list(option.type.choices) == list(SCHEMAS)
    with pytest.raises(SettingsError, match="'shoal' or 'rees46'"):
        load(environ={}, sources=[{"name": "a", "schema": "nope"}])
