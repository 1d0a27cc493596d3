"""A change of level opens, updates or resolves an alert, with an event of its user or without."""

from __future__ import annotations

import json

import numpy as np
import pytest

from state.stores.memory import MemoryStore
from streams.processing.alerts import level_changes
from streams.processing.alerts.registry import AlertSettings, default_rules, rules_from
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from tests.build import records
from tests.numpy_core import level_changes as numpy_changes
from tests.support.alerting import HOUR, alerts, event
from tests.support.decoding import decode
from tests.unit.streams.processing.outputs.test_segment_changes import random_heads, random_steps

BURST = [event("bot", i * 1000, "page_view") for i in range(12)]
RATE = AlertSettings(request_rate=(5, 10))


def test_an_alert_opens_is_updated_and_resolved() -> None:
    found = alerts([*BURST, event("bot", 3 * HOUR, "view")], RATE)
    assert [(a["status"], a["severity"]) for a in found] == [
        ("open", "warning"),
        ("update", "critical"),
        ("resolved", "none"),
    ]
    assert found[0]["first_seen"] == found[2]["first_seen"]


def test_an_alert_is_resolved_without_a_new_event_of_its_user() -> None:
    events = [*BURST, event("other", 3 * HOUR, "view")]
    assert [a["status"] for a in alerts(events, RATE)] == ["open", "update"]
    *_, last = alerts(events, RATE, sweep=True)
    assert (last["status"], last["subject"], last["evidence"]["events_1h"]) == ("resolved", "bot", 0)
    assert last["last_seen"] == "2023-11-14T23:15:00.000Z"  # the edge at which the pane of 22:10 leaves the hour


def test_a_rule_that_is_switched_off_resolves_what_it_had_open() -> None:
    store, topics = MemoryStore(), Topics("c", "s", "alerts", "d", "t", "r")
    statuses = []
    for i, settings in enumerate((RATE, AlertSettings(request_rate=None))):
        config = PartitionConfig(sources=("clickstream",), alerts=rules_from(settings))
        task = PartitionProcessor(config, decode, store, topics)
        first = i * len(BURST)
        task.add(records(BURST, first=first))
        task.run(0, {"clickstream": first + len(BURST)})
        flush = task.cut(0)
        assert flush is not None
        store.put_many(flush.rows)
        data = [json.loads(value or b"")["data"] for _, value, _ in flush.outputs["alerts", 0]]
        statuses.append([(a["rule"], a["status"], a["thresholds"]["events_1h"]) for a in data])
    assert statuses == [
        [("request_rate", "open", [5, 10]), ("request_rate", "update", [5, 10])],
        [("request_rate", "resolved", None)],
    ]


@pytest.mark.parametrize("seed", range(40))
def test_alerts_and_heads_are_those_of_whole_columns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rules = default_rules()
    n = int(rng.choice([0, 1, 2, 20, 200]))
    heads, steps = random_heads(rng), random_steps(rng, n)
    heads["alert"] = rng.integers(0, 3, heads["alert"].shape)
    heads["alert_seq"] = rng.integers(0, 9, len(heads))
    expected_heads, levels = heads.copy(), rng.integers(0, 3, (n, len(rules))).astype(np.uint8)
    found = level_changes.detect(heads, steps, levels, rules)
    assert found == numpy_changes.detect(expected_heads, steps, levels, rules)
    assert heads.tobytes() == expected_heads.tobytes()
