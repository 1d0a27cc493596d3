"""What a partition's decisions depend on, from the settings."""

from __future__ import annotations

from functools import partial
from typing import Any

from state import windows
from streams import alerts
from streams.partitioner import placed
from streams.settings import Settings, SourceSettings
from streams.step import Rule
from streams.wire import shoal
from streams.wire.rees46 import rees46


def schema_of(source: SourceSettings, settings: Settings) -> shoal.Schema:
    """The schema that a source's records are in."""
    common: dict[str, Any] = {
        "currency": settings.currency,
        "ahead": int(settings.ahead * 1000),
        "max_bytes": settings.rejects.max_bytes,
    }
    if source.schema_ == "rees46":
        return rees46(**common)
    return shoal.schema(source.fields, source.types, **common)


def rule_of(settings: Settings, partition: int) -> Rule:
    """What a partition's decisions depend on, from the settings."""
    chosen = settings.alerts
    return Rule(
        lateness=int(settings.lateness * 1000),
        timezone=settings.timezone,
        alerts=alerts.Rules(
            rate=chosen.request_rate, spend_factor=chosen.spend_factor, spend_quantile=chosen.spend_quantile,
            spend_least=round(chosen.spend_least * 100), spend_orders=chosen.spend_orders, refunds=chosen.refunds,
            refund_share=chosen.refund_share,
        ),
        training_key=settings.learner.hash_key.get_secret_value().encode(),
        training_hourly=max(1, settings.learner.rows_per_hour // settings.topics.partitions),
        sources=settings.source_topics,
        partition=partition,
        forget=forget_units(settings),
        placed=partial(placed, partitions=settings.topics.partitions),
    )  # fmt: skip


def forget_units(settings: Settings) -> int:
    """Time without an event after which a user is forgotten, in units of five minutes."""
    return int(settings.forget_after * windows.DAY)
