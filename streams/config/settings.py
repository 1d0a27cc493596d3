"""The settings of a deployment, from shoal.toml, SHOAL_* variables and options: read and checked once, immutable.

The sections are in streams/config/sections/, but for the two that are below.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator, model_validator

from streams.config.sections.kafka import Kafka
from streams.config.sections.learner import LearnerSettings
from streams.config.sections.rejects import Rejects
from streams.config.sections.section import Section, TopicName
from streams.config.sections.state import State
from streams.config.sections.topics import Topics
from streams.config.sections.trainer import TrainerSettings
from streams.config.sections.web import Web
from streams.config.settings_files import PREFIX, describe_error, parse_variable, read_toml, set_value
from streams.errors import SettingsError
from streams.processing.alerts.registry import AlertSettings
from streams.schemas.registry import DEFAULT, SCHEMAS

# variables with the prefix that are no settings
OTHER_VARIABLES = {"SHOAL_CACHE", "SHOAL_CONFIG", "SHOAL_MAVEN_MIRROR", "SHOAL_JAVA_HOME", "SHOAL_VERIFY_DATA"}
if TYPE_CHECKING:
    SchemaName = str
else:
    SchemaName = Literal[tuple(SCHEMAS)]


class SourceSettings(Section):
    """One source topic, in the order that breaks ties of time."""

    name: TopicName
    """Name of the topic, without the prefix."""
    schema_: Annotated[SchemaName, Field(alias="schema")] = DEFAULT
    """Schema of the records."""
    fields: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Field names of the records: theirs to shoal's. Only with the schema `shoal`."""
    types: dict[str, str] = {}  # noqa: RUF012
    """Event types of the records: theirs to shoal's. Only with the schema `shoal`."""
    rekey_from: TopicName | None = None
    """The topic, without prefix, that shoal repartitions by user id into this source."""

    @model_validator(mode="after")
    def _own_names(self) -> SourceSettings:
        if SCHEMAS[self.schema_].own_names and (self.fields or self.types):
            raise ValueError(f"{'fields' if self.fields else 'types'}: schema {self.schema_!r} has names of its own")
        return self


class Settings(Section):
    """All of a deployment."""

    application: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] = "shoal"
    """Name of the deployment: the workers' group, and part of internal topics and transactional ids."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    """Comes before the names of topics, groups and transactional ids."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """The only currency that is accepted (ISO 4217)."""
    timezone: str = "UTC"
    """Time zone of the shop's day (IANA name)."""
    lateness: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    """Seconds by which the watermark stays behind the newest event."""
    ahead: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    """Seconds by which an event's time may lie ahead of the clock or its record's time."""
    forget_after: Annotated[float, Field(ge=1, le=36_500)] = 400.0
    """Days without an event after which a user is forgotten."""
    kafka: Kafka = Kafka()
    """Connections to the brokers."""
    topics: Topics = Topics()
    """Topics."""
    sources: Annotated[tuple[SourceSettings, ...], Field(min_length=1, max_length=16)] = (
        SourceSettings(name="clickstream"),
        SourceSettings(name="purchases"),
    )
    """The source topics, in the order that breaks ties of event time."""
    state: State = State()
    """Local state and flushes."""
    learner: LearnerSettings = LearnerSettings()
    """How segments are found."""
    trainer: TrainerSettings = TrainerSettings()
    """How the encoder is trained."""
    alerts: AlertSettings = AlertSettings()
    """Thresholds of the alert rules."""
    rejects: Rejects = Rejects()
    """When many rejects stop a worker."""
    web: Web = Web()
    """The worker's status page."""

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except Exception:
            raise ValueError("no such time zone") from None
        return value

    @model_validator(mode="after")
    def _check_topic_names(self) -> Settings:
        names = [*self.source_topics, self.changelog]
        for key, field in Topics.model_fields.items():
            if field.annotation is str:  # the name of a topic
                names.append(self.topic(key))
        for source in self.repartitioned:
            names += [source.rekey_from or "", self.repartition_topic(source)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"sources and topics: {', '.join(repeated)} is named twice")
        if len(max(names, key=len)) > 249:
            raise ValueError("prefix: with it a topic's name has more than 249 characters")
        return self

    def topic(self, name: str) -> str:
        """Full name of a topic: of an output by its key in [topics], of a source by its name."""
        return self.prefix + getattr(self.topics, name, name)

    @property
    def changelog(self) -> str:
        """Full name of the state changelog."""
        return f"{self.prefix}{self.application}-state-changelog"

    @property
    def repartitioned(self) -> tuple[SourceSettings, ...]:
        """The sources that shoal fills itself, by repartitioning topics that are not keyed by user id."""
        return tuple(source for source in self.sources if source.rekey_from is not None)

    def repartition_topic(self, source: SourceSettings) -> str:
        """Full name of the topic that holds the progress of a source's repartitioning.

        It has one partition. The worker that owns this partition repartitions the source.
        """
        return f"{self.prefix}{self.application}-rekey-{source.name}"

    @property
    def source_topics(self) -> tuple[str, ...]:
        """Full names of the source topics, in the order of the setting `sources`."""
        return tuple(self.prefix + source.name for source in self.sources)


def load(path: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """The settings from a file, then from environment variables, then from overrides; a later value wins.

    path: by default SHOAL_CONFIG, else shoal.toml if it exists. environ: os.environ by default; a setting `section.key`
    is SHOAL_SECTION__KEY, and SHOAL_SECTION__KEY_FILE names a file that holds the value. overrides: values by dotted
    name; None is no override.

    SettingsError names each setting that is unknown, of a wrong type, or out of bounds.
    """
    environ = os.environ if environ is None else environ
    chosen = path or (Path(environ["SHOAL_CONFIG"]) if environ.get("SHOAL_CONFIG") else None)
    file = chosen or Path("shoal.toml")
    values = read_toml(file) if chosen or file.exists() else {}
    for name, text in sorted(environ.items()):  # in this order a variable of a whole section precedes those of its keys
        if name.startswith(PREFIX) and name not in OTHER_VARIABLES:
            key_path, value = parse_variable(name, text, environ, Settings)
            set_value(values, key_path, value)
    for dotted_name, value in overrides.items():
        if value is not None:
            set_value(values, dotted_name.split("."), value)
    try:
        # Validated as JSON: in strict mode that refuses "4" for 4, but accepts text for a path and a list for a tuple.
        return Settings.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False, include_context=False)
        faults = [describe_error(detail["loc"], detail["type"], detail["msg"]) for detail in details]
        raise SettingsError("; ".join(faults)) from None
