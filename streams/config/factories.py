"""What a partition's decisions depend on, from the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from state import windows
from streams.config.settings import Settings, SourceSettings
from streams.errors import SettingsError
from streams.processing.alerts.registry import rules_from
from streams.processing.batch_step import PartitionConfig
from streams.processing.partitioner import placed
from streams.schemas import flat_json, rees46
from streams.schemas.field_names import Names


def schema_of(source: SourceSettings, settings: Settings) -> flat_json.Schema:
    """The schema that a source's records are in; SettingsError where its names do not fit."""
    common: dict[str, Any] = {
        "currency": settings.currency,
        "ahead": int(settings.ahead * 1000),
        "max_bytes": settings.rejects.max_bytes,
    }
    if source.schema_ == "rees46":
        return rees46.rees46(**common)
    try:
        return flat_json.schema(source.fields, source.types, **common)
    except ValueError as error:
        raise SettingsError(f"source {source.name}, fields and types: {error}") from None


def spell(settings: Settings) -> Callable[[str, Mapping[str, Any]], dict[str, Any]]:
    """A function that puts an event of shoal's own schema in the names of a source (its name without the prefix)."""
    found = {
        source.name: Names(rees46.FIELDS, rees46.TYPES)
        if source.schema_ == "rees46"
        else Names(source.fields, source.types)
        for source in settings.sources
    }
    return lambda name, event: found[name].spell(event)


def partition_config(settings: Settings, partition: int) -> PartitionConfig:
    """What a partition's decisions depend on, from the settings."""
    return PartitionConfig(
        lateness=int(settings.lateness * 1000),
        timezone=settings.timezone,
        alerts=rules_from(settings.alerts),
        training_key=settings.learner.hash_key.get_secret_value().encode(),
        training_hourly=max(1, settings.learner.rows_per_hour // settings.topics.partitions),
        sources=settings.source_topics,
        partition=partition,
        forget=forget_units(settings),
        placed=partial(placed, partitions=settings.topics.partitions),
    )


def forget_units(settings: Settings) -> int:
    """Time without an event after which a user is forgotten, in units of five minutes."""
    return int(settings.forget_after * windows.DAY)
