"""Alerts that events lead to, under settings of the section [alerts]: for the tests of the rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from online_models.version import Version
from state.stores.memory import MemoryStore
from streams.processing.alerts.registry import AlertSettings, rules_from
from streams.processing.alerts.rule import AlertRule
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from tests.build import records
from tests.support.decoding import decode

START = 1_700_000_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def event(user: str, time: int, event_type: str, price: float = 0.0) -> dict[str, Any]:
    """An event so many milliseconds after START."""
    return {"user_id": user, "event_time": START + time, "event_type": event_type, "price": price}


def alerts(
    events: list[dict[str, Any]],
    rules: AlertSettings | Sequence[AlertRule],
    *,
    sweep: bool = False,
    model: Version | None = None,
) -> list[dict[str, Any]]:
    """The alert records (`data`) of events, in their order; sweep: exits are decided up to the watermark."""
    chosen = rules_from(rules) if isinstance(rules, AlertSettings) else tuple(rules)
    config = PartitionConfig(sources=("clickstream",), alerts=chosen)
    task = PartitionProcessor(config, decode, MemoryStore(), Topics("c", "s", "alerts", "d", "t", "r"))
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
