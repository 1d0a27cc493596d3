"""Each rule opens, updates and resolves, with evidence that says why."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np

from online_models.version import Version
from state import features
from state.stores.memory import MemoryStore
from streams.processing.alerts import Rules
from streams.processing.batch_step import Rule
from streams.processing.output_buffer import Topics
from streams.processing.partition_processor import PartitionProcessor
from tests.build import random_encoder, records, version
from tests.support.decoding import decode

START = 1_700_000_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def alerts(
    events: list[dict[str, Any]], rules: Rules, *, sweep: bool = False, model: Version | None = None
) -> list[dict[str, Any]]:
    rule = Rule(sources=("clickstream",), alerts=rules)
    task = PartitionProcessor(rule, decode, MemoryStore(), Topics("c", "s", "alerts", "d", "t", "r"))
    if model is not None:
        task.adopt(model)
        task.cut(0)
    task.add(records(events))
    task.run(0, {"clickstream": len(events)})
    if sweep:
        task.sweep(100)
    flush = task.cut(0)
    assert flush is not None
    return [json.loads(value or b"")["data"] for _, value, _ in flush.outputs.get(("alerts", 0), [])]


def event(user: str, time: int, kind: str, price: float = 0.0) -> dict[str, Any]:
    return {"user_id": user, "event_time": START + time, "event_type": kind, "price": price}


def test_request_rate_opens_updates_and_resolves() -> None:
    events = [event("bot", i * 1000, "page_view") for i in range(12)] + [event("bot", 3 * HOUR, "view")]
    found = alerts(events, Rules(rate=(5, 10)))
    assert [(a["rule"], a["status"], a["severity"]) for a in found] == [
        ("request_rate", "open", "warning"),
        ("request_rate", "update", "critical"),
        ("request_rate", "resolved", "none"),
    ]
    assert [a["evidence"]["events_1h"] for a in found] == [5, 10, 0]  # the hour is over before the view
    assert found[0]["first_seen"] == found[2]["first_seen"]


def test_an_alert_is_resolved_without_a_new_event_of_its_user() -> None:
    events = [event("bot", i * 1000, "page_view") for i in range(12)] + [event("other", 3 * HOUR, "view")]
    rules = Rules(rate=(5, 10))
    assert [a["status"] for a in alerts(events, rules)] == ["open", "update"]
    *_, last = alerts(events, rules, sweep=True)
    assert (last["status"], last["subject"], last["evidence"]["events_1h"]) == ("resolved", "bot", 0)
    assert last["last_seen"] == "2023-11-14T23:15:00.000Z"  # the edge at which the pane of 22:10 leaves the hour


def test_spend_far_above_the_users_own_and_the_shops_history() -> None:
    rules = Rules(spend_factor=(10.0, 30.0), spend_least=10_000, spend_orders=50)
    crowd = [event(f"u{i}", i * MINUTE, "purchase", 20.0) for i in range(200)]
    rich = [event("rich", 5 * HOUR, "purchase", 5000.0)]
    assert alerts(rich, rules) == []  # no history of the shop yet
    (found,) = alerts(crowd + rich, rules)
    assert (found["rule"], found["subject"], found["evidence"]["spend_24h"]) == ("spend", "rich", 5000.0)
    usual = [event("vip", d * DAY, "purchase", 5000.0) for d in range(-20, 0)]
    assert [a["subject"] for a in alerts(usual + crowd + [event("vip", 5 * HOUR, "purchase", 5000.0)], rules)] == []


def test_refund_burst() -> None:
    found = alerts([event("r", i * MINUTE, "refund", 10.0) for i in range(3)], Rules(refunds=(3, 10)))
    assert [(a["rule"], a["status"], a["evidence"]["refunds_24h"]) for a in found] == [("refund_burst", "open", 3)]


def test_a_rule_that_is_off_says_nothing() -> None:
    assert alerts([event("r", i * MINUTE, "refund", 1.0) for i in range(5)], Rules(refunds=None)) == []


def test_unusual_says_how_badly_the_encoder_restores_a_shopper() -> None:
    events = [event("odd", i * 1000, "add_to_cart" if i % 2 else "view", 9.0) for i in range(20)]
    encoder = random_encoder(3)
    high = float(encoder.unusual(np.zeros((1, 2 * features.R + len(features.PLAIN))))[0])
    model = msgspec.structs.replace(version(1, 1), encoder=encoder)
    found = alerts(events, Rules(unusual=(high / 1e6, 1e9)), model=model)
    assert [(a["rule"], a["status"], a["severity"]) for a in found] == [("unusual", "open", "warning")]
    assert found[0]["evidence"]["reconstruction_error"] > 0
    assert alerts(events, Rules(unusual=(1e8, 1e9)), model=model) == []
    assert alerts(events, Rules(unusual=(high / 1e6, 1e9)), model=version(1, 1)) == []  # no encoder yet
    assert alerts(events, Rules(unusual=None), model=model) == []
