"""The settings: shoal.toml and SHOAL_* variables, read once, frozen, checked at the start."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from streams.errors import SettingsError

PREFIX = "SHOAL_"
OTHERS = {"SHOAL_CACHE", "SHOAL_CONFIG", "SHOAL_MAVEN_MIRROR", "SHOAL_JAVA_HOME", "SHOAL_VERIFY_DATA"}
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kafka(Section):
    """How every client reaches the brokers."""

    bootstrap_servers: str = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_keyfile_password: SecretStr | None = None
    ssl_check_hostname: bool = True


class Topics(Section):
    """Names (the prefix comes before them), partitions, replication, retention in hours (-1 for ever)."""

    partitions: Annotated[int, Field(gt=0, le=10_000)] = 4
    replication: Annotated[int, Field(gt=0, le=32)] = 3
    min_insync_replicas: Annotated[int, Field(gt=0, le=32)] = 2
    source_retention: Annotated[int, Field(ge=-1)] = 168
    output_retention: Annotated[int, Field(ge=-1)] = 720
    dead_letter_retention: Annotated[int, Field(ge=-1)] = 2160
    training_retention: Annotated[int, Field(ge=-1)] = 720
    max_message_bytes: Annotated[int, Field(ge=1_048_576)] = 16 << 20
    segment_changes: str = "segment-changes"
    segments: str = "segments"
    alerts: str = "alerts"
    dead_letters: str = "dead-letters"
    training_rows: str = "training-rows"
    models: str = "models"


class SourceSettings(Section):
    """One source topic, in the order that breaks ties of time."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    schema_: Annotated[Literal["shoal", "rees46"], Field(alias="schema")] = "shoal"
    fields: dict[str, str] = {}
    types: dict[str, str] = {}


class State(Section):
    """Local state and the flush."""

    datadir: Path = Path(".shoal/state")
    cache_rows: Annotated[int, Field(ge=1000)] = 2_000_000
    block_cache_mb: Annotated[int, Field(ge=1)] = 64
    flush_interval: Annotated[float, Field(gt=0, le=60)] = 0.25
    session_timeout: Seconds = 10.0
    rebalance_timeout: Seconds = 30.0
    transaction_timeout: Seconds = 20.0
    max_poll_records: Annotated[int, Field(ge=1, le=200_000)] = 8_000
    recovery_deadline: Seconds = 600.0


class LearnerSettings(Section):
    """When a model version is published, and from how much."""

    k: Annotated[int, Field(ge=2, le=256)] = 8
    first_rows: Annotated[int, Field(ge=10)] = 300
    every_rows: Annotated[int, Field(ge=10)] = 2_000
    every: Annotated[float, Field(gt=0)] = 3_600.0
    rows_per_hour: Positive = 20_000
    window: Annotated[int, Field(ge=100, le=60_000)] = 20_000
    seed: Annotated[int, Field(ge=0)] = 7
    hash_key: SecretStr = SecretStr("shoal")


class AlertSettings(Section):
    """Thresholds of the alert rules (warning, critical); null switches a rule off. Money in major units."""

    request_rate: tuple[Positive, Positive] | None = (600, 2000)
    spend_factor: tuple[float, float] | None = (10.0, 30.0)
    spend_quantile: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    spend_least: Annotated[float, Field(ge=0)] = 500.0
    spend_orders: Positive = 100
    refunds: tuple[Positive, Positive] | None = (3, 10)
    refund_share: Annotated[float, Field(gt=0, le=1)] = 0.5


class Rejects(Section):
    """When many rejects mean a wrong schema."""

    window: Annotated[int, Field(ge=100)] = 10_000
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    max_bytes: Annotated[int, Field(ge=64)] = 65_536


class Web(Section):
    """The worker's page: metrics, health, status."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 6066


class Settings(Section):
    """All of a deployment."""

    application: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] = "shoal"
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]*$")] = ""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    timezone: str = "UTC"
    lateness: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    ahead: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    sources: Annotated[tuple[SourceSettings, ...], Field(min_length=1, max_length=16)] = (
        SourceSettings(name="clickstream"),
        SourceSettings(name="purchases"),
    )
    state: State = State()
    learner: LearnerSettings = LearnerSettings()
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

    def topic(self, name: str) -> str:
        """Full name of a topic: of an output by its key in [topics], of a source by its name."""
        return self.prefix + getattr(self.topics, name, name)

    @property
    def changelog(self) -> str:
        return f"{self.prefix}{self.application}-state-changelog"

    @property
    def source_topics(self) -> tuple[str, ...]:
        return tuple(self.prefix + source.name for source in self.sources)


def load(path: Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from a file (SHOAL_CONFIG, else shoal.toml where there is one), then SHOAL_* variables
    (SHOAL_KAFKA__BOOTSTRAP_SERVERS; ..._FILE reads the value from a file), then overrides ("kafka.x": value).
    SettingsError names the key that is unknown, of a wrong type or impossible."""
    environ = os.environ if environ is None else environ
    named = path or (Path(environ["SHOAL_CONFIG"]) if "SHOAL_CONFIG" in environ else None)
    data: dict[str, Any] = {}
    source = named or Path("shoal.toml")
    if named or source.exists():
        try:
            data = tomllib.loads(source.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{source}: {error}") from None
    for name, value in environ.items():
        if name.startswith(PREFIX) and name not in OTHERS:
            _set(data, *_variable(name, value))
    for name, value in overrides.items():
        if value is not None:
            _set(data, name.split("."), value)
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors(include_input=False)]
        raise SettingsError("; ".join(lines)) from None


def _variable(name: str, value: str) -> tuple[list[str], Any]:
    if name.endswith("_FILE"):
        name = name.removesuffix("_FILE")
        try:
            value = Path(value).read_text().rstrip("\n")
        except OSError as error:
            raise SettingsError(f"{name}_FILE: {error.strerror}") from None
    path = name.removeprefix(PREFIX).lower().split("__")
    if value[:1] in "[{(" and value:
        try:
            return path, tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            raise SettingsError(f"{name}: neither text nor a TOML value") from None
    return path, value


def _set(data: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise SettingsError(f"{'.'.join(path)}: {part} is no section")
    data[path[-1]] = value
