"""Schemas, and what a partition's decisions depend on, from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from state import windows
from streams.config.settings import Settings, SourceSettings
from streams.errors import SettingsError
from streams.processing.alerts.registry import rules_from
from streams.processing.partition_config import PartitionConfig
from streams.processing.partitioner import partitions_of
from streams.schemas.registry import SCHEMAS
from streams.schemas.schema import Options, Schema


def schema_of(source: SourceSettings, settings: Settings) -> Schema:
    """The schema that a source's records are in; SettingsError where its names do not fit."""
    try:
        return SCHEMAS[source.schema_].make(_options(settings, source.fields, source.types))
    except ValueError as error:
        raise SettingsError(f"source {source.name}, fields and types: {error}") from None


def file_schema(name: str, settings: Settings) -> Schema:
    """The schema of a file: a name of the registry, without names of its own."""
    return SCHEMAS[name].make(_options(settings))


def _options(
    settings: Settings, fields: Mapping[str, str] | None = None, types: Mapping[str, str] | None = None
) -> Options:
    return Options(
        fields=fields or {},
        types=types or {},
        currency=settings.currency,
        ahead=int(settings.ahead * 1000),
        max_bytes=settings.rejects.max_bytes,
    )


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
        placed=partial(partitions_of, partitions=settings.topics.partitions),
    )


def forget_units(settings: Settings) -> int:
    """Time without an event after which a user is forgotten, in units of five minutes."""
    return int(settings.forget_after * windows.DAY)
