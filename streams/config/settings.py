"""The settings: shoal.toml and SHOAL_* variables, read once, frozen, checked at the start."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from streams.config.settings_files import PREFIX, put, read, told, variable
from streams.errors import SettingsError

OTHERS = {"SHOAL_CACHE", "SHOAL_CONFIG", "SHOAL_MAVEN_MIRROR", "SHOAL_JAVA_HOME", "SHOAL_VERIFY_DATA"}
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=200)]
Levels = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
Counts = tuple[Positive, Positive]
# TOML has no null; a validator in Python is handed a list, and its strict check wants a tuple
Off = BeforeValidator(lambda value: None if value is False else tuple(value) if isinstance(value, list) else value)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Kafka(Section):
    """How every client reaches the brokers."""

    bootstrap_servers: Annotated[str, Field(pattern=r"^\s*[^\s,]+:\d+\s*(,\s*[^\s,]+:\d+\s*)*$")] = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_keyfile_password: SecretStr | None = None
    ssl_check_hostname: bool = True

    @model_validator(mode="after")
    def _whole(self) -> Kafka:
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile: a key without kafka.ssl_certfile proves nothing")
        return self


class Topics(Section):
    """Names (the prefix comes before them), partitions, replication, retention in hours (-1 for ever)."""

    partitions: Annotated[int, Field(gt=0, le=10_000)] = 4
    replication: Annotated[int, Field(gt=0, le=32)] = 3
    min_insync_replicas: Annotated[int, Field(gt=0, le=32)] = 2
    source_retention: Annotated[int, Field(ge=-1, le=876_000)] = 168
    output_retention: Annotated[int, Field(ge=-1, le=876_000)] = 720
    dead_letter_retention: Annotated[int, Field(ge=-1, le=876_000)] = 2160
    lineage_retention: Annotated[int, Field(ge=-1, le=876_000)] = -1
    command_retention: Annotated[int, Field(ge=-1, le=876_000)] = 168
    training_retention: Annotated[int, Field(ge=-1, le=876_000)] = 720
    max_message_bytes: Annotated[int, Field(ge=1_048_576, le=1 << 30)] = 16 << 20
    segment_changes: TopicName = "segment-changes"
    segments: TopicName = "segments"
    alerts: TopicName = "alerts"
    dead_letters: TopicName = "dead-letters"
    training_rows: TopicName = "training-rows"
    models: TopicName = "models"
    segment_lineage: TopicName = "segment-lineage"
    commands: TopicName = "commands"
    commands_results: TopicName = "commands-results"

    @model_validator(mode="after")
    def _reachable(self) -> Topics:
        if self.min_insync_replicas > self.replication:
            raise ValueError("topics.min_insync_replicas must be at most topics.replication: nothing could be written")
        return self


class SourceSettings(Section):
    """One source topic, in the order that breaks ties of time."""

    name: TopicName
    schema_: Annotated[Literal["shoal", "rees46"], Field(alias="schema")] = "shoal"
    fields: dict[str, str] = {}
    types: dict[str, str] = {}
    rekey_from: TopicName | None = None  # the shop's own topic, without the prefix: re-keyed into this one

    @model_validator(mode="after")
    def _own_names(self) -> SourceSettings:
        if self.schema_ != "shoal" and (self.fields or self.types):
            raise ValueError(f"{'fields' if self.fields else 'types'}: schema {self.schema_!r} has names of its own")
        return self


class State(Section):
    """Local state and the flush."""

    datadir: Path = Path(".shoal/state")
    cache_rows: Annotated[int, Field(ge=1000, le=10**9)] = 2_000_000
    block_cache_mb: Annotated[int, Field(ge=1, le=1 << 20)] = 64
    flush_interval: Annotated[float, Field(gt=0, le=60)] = 0.25
    session_timeout: Seconds = 10.0
    rebalance_timeout: Seconds = 30.0
    transaction_timeout: Seconds = 20.0
    max_poll_records: Annotated[int, Field(ge=1, le=200_000)] = 8_000
    recovery_deadline: Seconds = 600.0
    journal: bool = False

    @model_validator(mode="after")
    def _in_time(self) -> State:
        if self.flush_interval > self.transaction_timeout:
            raise ValueError("state.flush_interval must be at most state.transaction_timeout")
        return self


class LearnerSettings(Section):
    """How segments are found, when a model version is published, and from how much. A window is of people; k_least and
    k_most alike: their number is fixed."""

    segmenter: Literal["kmeans", "dbstream", "clustream", "denstream"] = "kmeans"
    k_least: Annotated[int, Field(ge=2, le=64)] = 4
    k_most: Annotated[int, Field(ge=2, le=64)] = 16
    first_rows: Annotated[int, Field(ge=10, le=10**7)] = 300
    every_rows: Annotated[int, Field(ge=10, le=10**7)] = 2_000
    every: Annotated[float, Field(gt=0, le=31_536_000)] = 21_600.0
    rows_per_hour: Positive = 2_000
    window: Annotated[int, Field(ge=100, le=15_000)] = 6_000
    hysteresis: Annotated[float, Field(ge=0, lt=1)] = 0.15
    half_life: Annotated[float, Field(gt=0, le=31_536_000)] = 129_600.0
    clip: Annotated[float, Field(gt=0, le=100)] = 2.0
    floor: Annotated[float, Field(gt=0, le=1)] = 0.002
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 7
    hash_key: Annotated[SecretStr, Field(min_length=1)] = SecretStr("shoal")

    @model_validator(mode="after")
    def _enough(self) -> LearnerSettings:
        if self.k_most < self.k_least:
            raise ValueError("learner.k_most must be at least learner.k_least")
        if min(self.first_rows, self.window) < self.k_least:
            raise ValueError("learner.first_rows and learner.window must be at least learner.k_least")
        return self


class TrainerSettings(Section):
    """When `shoal train` trains an encoder, from how many rows, and how; clusters below 2: no clustering term."""

    datadir: Path = Path(".shoal/trainer")
    window: Annotated[int, Field(ge=1_000, le=10**8)] = 1_000_000
    first_rows: Annotated[int, Field(ge=200, le=10**8)] = 2_000
    every: Annotated[float, Field(gt=0, le=31_536_000)] = 3_600.0
    drift: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    promote: bool = True
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(max_length=7)] = (32,)
    latent: Annotated[int, Field(ge=1, le=256)] = 8
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 30
    batch: Annotated[int, Field(ge=64, le=1 << 20)] = 4_096
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.15
    clusters: Annotated[int, Field(ge=0, le=256)] = 0
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 7
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0, le=1024)] = 0

    @model_validator(mode="after")
    def _within(self) -> TrainerSettings:
        if self.first_rows > self.window:
            raise ValueError("trainer.first_rows must be at most trainer.window")
        return self


class AlertSettings(Section):
    """Thresholds of the alert rules (warning, critical); false switches a rule off. Money in major units."""

    request_rate: Annotated[Counts | None, Off] = (600, 2000)
    spend_factor: Annotated[Levels | None, Off] = (10.0, 30.0)
    spend_quantile: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    spend_least: Annotated[float, Field(ge=0)] = 500.0
    spend_orders: Positive = 100
    refunds: Annotated[Counts | None, Off] = (3, 10)
    refund_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    unusual: Annotated[Levels | None, Off] = None

    @field_validator("request_rate", "spend_factor", "refunds", "unusual")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value and value[0] > value[1]:
            raise ValueError("the warning must not lie above the critical level")
        return value


class Rejects(Section):
    """When many rejects mean a wrong schema."""

    window: Annotated[int, Field(ge=100)] = 10_000
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_bytes: Annotated[int, Field(ge=64, le=16 << 20)] = 65_536


class Web(Section):
    """The worker's page: metrics, health, status."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 6066


class Settings(Section):
    """All of a deployment."""

    application: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] = "shoal"
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    timezone: str = "UTC"
    lateness: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    ahead: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    forget_after: Annotated[float, Field(ge=1, le=36_500)] = 400.0
    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    sources: Annotated[tuple[SourceSettings, ...], Field(min_length=1, max_length=16)] = (
        SourceSettings(name="clickstream"),
        SourceSettings(name="purchases"),
    )
    state: State = State()
    learner: LearnerSettings = LearnerSettings()
    trainer: TrainerSettings = TrainerSettings()
    alerts: AlertSettings = AlertSettings()
    rejects: Rejects = Rejects()
    web: Web = Web()

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except Exception:
            raise ValueError("no such time zone") from None
        return value

    @model_validator(mode="after")
    def _apart(self) -> Settings:
        named = [name for name in Topics.model_fields if Topics.model_fields[name].annotation is str]
        rekeyed = [name for source in self.rekeyed for name in (source.rekey_from or "", self.rekeying(source))]
        names = [*rekeyed, *self.source_topics, *(self.topic(key) for key in named), self.changelog]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sources and topics: {', '.join(twice)} is named twice")
        if len(max(names, key=len)) > 249:
            raise ValueError("prefix: with it a topic's name has more than 249 characters")
        return self

    def topic(self, name: str) -> str:
        """Full name of a topic: of an output by its key in [topics], of a source by its name."""
        return self.prefix + getattr(self.topics, name, name)

    @property
    def changelog(self) -> str:
        return f"{self.prefix}{self.application}-state-changelog"

    @property
    def rekeyed(self) -> tuple[SourceSettings, ...]:
        """The sources that shoal writes itself, from topics that are not keyed by user."""
        return tuple(source for source in self.sources if source.rekey_from is not None)

    def rekeying(self, source: SourceSettings) -> str:
        """The topic, of one partition, that holds the progress of a source's re-keyer; whoever owns it is the one."""
        return f"{self.prefix}{self.application}-rekey-{source.name}"

    @property
    def source_topics(self) -> tuple[str, ...]:
        return tuple(self.prefix + source.name for source in self.sources)


def load(path: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from a file (SHOAL_CONFIG, else shoal.toml where there is one), then SHOAL_* variables
    (SHOAL_KAFKA__BOOTSTRAP_SERVERS; ..._FILE reads the value from a file), then overrides ("kafka.x": value).
    SettingsError names the key that is unknown, of a wrong type or impossible."""
    environ = os.environ if environ is None else environ
    named = path or (Path(environ["SHOAL_CONFIG"]) if environ.get("SHOAL_CONFIG") else None)
    source = named or Path("shoal.toml")
    data = read(source) if named or source.exists() else {}
    for name, value in sorted(environ.items()):  # a section as a whole comes before its keys
        if name.startswith(PREFIX) and name not in OTHERS:
            put(data, *variable(name, value, environ, Settings))
    for name, value in overrides.items():
        if value is not None:
            put(data, name.split("."), value)
    try:
        # as JSON: strict there refuses "4" for 4, but still takes text for a path and a list for a tuple
        return Settings.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        raise SettingsError("; ".join(told(one["loc"], one["type"], one["msg"]) for one in found)) from None
