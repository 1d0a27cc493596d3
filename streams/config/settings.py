"""The settings: shoal.toml and SHOAL_* variables, read once, frozen, checked at the start."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from streams.config.settings_files import PREFIX, put, read, told, variable
from streams.errors import SettingsError
from streams.processing.alerts.registry import AlertSettings
from streams.schemas.registry import DEFAULT, SCHEMAS

OTHERS = {"SHOAL_CACHE", "SHOAL_CONFIG", "SHOAL_MAVEN_MIRROR", "SHOAL_JAVA_HOME", "SHOAL_VERIFY_DATA"}
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=200)]
if TYPE_CHECKING:
    SchemaName = str
else:
    SchemaName = Literal[tuple(SCHEMAS)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Kafka(Section):
    """How every client reaches the brokers."""

    bootstrap_servers: Annotated[str, Field(pattern=r"^\s*[^\s,]+:\d+\s*(,\s*[^\s,]+:\d+\s*)*$")] = "127.0.0.1:9092"
    """Brokers as host:port, separated by commas."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How connections are secured."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """SASL mechanism; used with `SASL_PLAINTEXT` and `SASL_SSL`."""
    sasl_username: str | None = None
    """SASL user name."""
    sasl_password: SecretStr | None = None
    """SASL password."""
    ssl_cafile: Path | None = None
    """PEM file of the certificate authorities that sign the brokers' certificates."""
    ssl_certfile: Path | None = None
    """PEM file of the client's certificate."""
    ssl_keyfile: Path | None = None
    """PEM file of the client's private key; needs `ssl_certfile`."""
    ssl_keyfile_password: SecretStr | None = None
    """Password of the private key."""
    ssl_check_hostname: bool = True
    """Whether the broker's certificate must name the host."""

    @model_validator(mode="after")
    def _whole(self) -> Kafka:
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile: a key without kafka.ssl_certfile proves nothing")
        return self


class Topics(Section):
    """Names (the prefix comes before them), partitions, replication, retention in hours (-1 for ever)."""

    partitions: Annotated[int, Field(gt=0, le=10_000)] = 4
    """Partitions of the sources, outputs, commands and the changelog; it cannot be changed later."""
    replication: Annotated[int, Field(gt=0, le=32)] = 3
    """Replicas of each topic that shoal creates."""
    min_insync_replicas: Annotated[int, Field(gt=0, le=32)] = 2
    """`min.insync.replicas` of each topic that shoal creates; at most `topics.replication`."""
    source_retention: Annotated[int, Field(ge=-1, le=876_000)] = 168
    """Retention of the sources in hours; -1 keeps all records."""
    output_retention: Annotated[int, Field(ge=-1, le=876_000)] = 720
    """Retention of segment changes and alerts in hours; -1 keeps all records."""
    dead_letter_retention: Annotated[int, Field(ge=-1, le=876_000)] = 2160
    """Retention of dead letters in hours; -1 keeps all records."""
    lineage_retention: Annotated[int, Field(ge=-1, le=876_000)] = -1
    """Retention of the segment lineage in hours; -1 keeps all records."""
    command_retention: Annotated[int, Field(ge=-1, le=876_000)] = 168
    """Retention of commands and their receipts in hours; -1 keeps all records."""
    training_retention: Annotated[int, Field(ge=-1, le=876_000)] = 720
    """Retention of training rows in hours; -1 keeps all records."""
    max_message_bytes: Annotated[int, Field(ge=1_048_576, le=1 << 30)] = 16 << 20
    """`max.message.bytes` of the topics, and the largest request of a producer, in bytes."""
    segment_changes: TopicName = "segment-changes"
    """Name of the topic of segment changes."""
    segments: TopicName = "segments"
    """Name of the compacted topic of each user's current segment."""
    alerts: TopicName = "alerts"
    """Name of the topic of alerts."""
    dead_letters: TopicName = "dead-letters"
    """Name of the topic of rejected records."""
    training_rows: TopicName = "training-rows"
    """Name of the topic of training rows."""
    models: TopicName = "models"
    """Name of the compacted topic of model versions."""
    segment_lineage: TopicName = "segment-lineage"
    """Name of the topic of segment lineage."""
    commands: TopicName = "commands"
    """Name of the topic of commands."""
    commands_results: TopicName = "commands-results"
    """Name of the topic of the commands' receipts and the learner's answers."""

    @model_validator(mode="after")
    def _reachable(self) -> Topics:
        if self.min_insync_replicas > self.replication:
            raise ValueError("topics.min_insync_replicas must be at most topics.replication: nothing could be written")
        return self


class SourceSettings(Section):
    """One source topic, in the order that breaks ties of time."""

    name: TopicName
    """Name of the topic, without the prefix."""
    schema_: Annotated[SchemaName, Field(alias="schema")] = DEFAULT
    """Schema of the records."""
    fields: dict[str, str] = {}
    """Field names of the records: theirs to shoal's. Only with the schema `shoal`."""
    types: dict[str, str] = {}
    """Event types of the records: theirs to shoal's. Only with the schema `shoal`."""
    rekey_from: TopicName | None = None
    """The topic, without prefix, that shoal repartitions by user id into this source."""

    @model_validator(mode="after")
    def _own_names(self) -> SourceSettings:
        if SCHEMAS[self.schema_].own_names and (self.fields or self.types):
            raise ValueError(f"{'fields' if self.fields else 'types'}: schema {self.schema_!r} has names of its own")
        return self


class State(Section):
    """Local state and the flush."""

    datadir: Path = Path(".shoal/state")
    """Folder of the local state."""
    cache_rows: Annotated[int, Field(ge=1000, le=10**9)] = 2_000_000
    """User rows in memory, over all partitions of a worker."""
    block_cache_mb: Annotated[int, Field(ge=1, le=1 << 20)] = 64
    """RocksDB's block cache in MiB, shared by all partitions of a worker."""
    flush_interval: Annotated[float, Field(gt=0, le=60)] = 0.25
    """Seconds between two flushes; at most `state.transaction_timeout`."""
    session_timeout: Seconds = 10.0
    """Seconds without a heartbeat after which a group member counts as dead."""
    rebalance_timeout: Seconds = 30.0
    """Seconds that a member of the workers' group has to rejoin in a rebalance."""
    transaction_timeout: Seconds = 20.0
    """Seconds after which a transaction that is not committed is aborted."""
    max_poll_records: Annotated[int, Field(ge=1, le=200_000)] = 8_000
    """Records of one poll, about."""
    recovery_deadline: Seconds = 600.0
    """Seconds after which a recovery that has not ended stops the worker (exit code 9)."""
    journal: bool = False
    """Whether progress records hold a journal of what was applied, as `make faults` needs. It names erased users."""

    @model_validator(mode="after")
    def _in_time(self) -> State:
        if self.flush_interval > self.transaction_timeout:
            raise ValueError("state.flush_interval must be at most state.transaction_timeout")
        return self


class LearnerSettings(Section):
    """How segments are found, when a model version is published, and from how much. A window is of people; k_least and
    k_most alike: their number is fixed."""

    segmenter: Literal["kmeans", "dbstream", "clustream", "denstream"] = "kmeans"
    """Clustering algorithm."""
    k_least: Annotated[int, Field(ge=2, le=64)] = 4
    """Smallest number of segments. Equal to `k_most`, the number is fixed."""
    k_most: Annotated[int, Field(ge=2, le=64)] = 16
    """Largest number of segments."""
    first_rows: Annotated[int, Field(ge=10, le=10**7)] = 300
    """Training rows before the first model version."""
    every_rows: Annotated[int, Field(ge=10, le=10**7)] = 2_000
    """Training rows between two model versions."""
    every: Annotated[float, Field(gt=0, le=31_536_000)] = 21_600.0
    """Event time in seconds after which a model version is due, once a tenth of `every_rows` has come."""
    rows_per_hour: Positive = 2_000
    """Training rows that the workers aim to send per hour of event time, over all partitions."""
    window: Annotated[int, Field(ge=100, le=15_000)] = 6_000
    """People that a model version is made from."""
    hysteresis: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """How much nearer, as a share of the distance, another centroid must be before a user moves."""
    half_life: Annotated[float, Field(gt=0, le=31_536_000)] = 129_600.0
    """Half-life in seconds of event time with which the feature scaling follows the shop."""
    clip: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Bound on scaled features."""
    floor: Annotated[float, Field(gt=0, le=1)] = 0.002
    """Smallest step size of the online k-means."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 7
    """Seed of the clustering."""
    hash_key: Annotated[SecretStr, Field(min_length=1)] = SecretStr("shoal")
    """Key of the hash that replaces user ids in training rows."""

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
    """Folder of the trainer's rows and of the last encoder."""
    window: Annotated[int, Field(ge=1_000, le=10**8)] = 1_000_000
    """Newest training rows that the trainer keeps."""
    first_rows: Annotated[int, Field(ge=200, le=10**8)] = 2_000
    """Training rows before the first training; at most `trainer.window`."""
    every: Annotated[float, Field(gt=0, le=31_536_000)] = 3_600.0
    """Seconds between two trainings."""
    drift: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Significance level of the drift detector (ADWIN's delta)."""
    promote: bool = True
    """Whether each candidate is judged, and a better one promoted."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(max_length=7)] = (32,)
    """Units of the hidden layers."""
    latent: Annotated[int, Field(ge=1, le=256)] = 8
    """Dimensions of the embedding."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 30
    """Epochs of a training."""
    batch: Annotated[int, Field(ge=64, le=1 << 20)] = 4_096
    """Rows of a training batch."""
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of the features that is hidden from the autoencoder."""
    clusters: Annotated[int, Field(ge=0, le=256)] = 0
    """Clusters of the clustering term; below 2 there is no such term."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 7
    """Seed of the training."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where torch trains; `auto` takes CUDA where there is one."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads of torch; 0 leaves the number to torch."""

    @model_validator(mode="after")
    def _within(self) -> TrainerSettings:
        if self.first_rows > self.window:
            raise ValueError("trainer.first_rows must be at most trainer.window")
        return self


class Rejects(Section):
    """When many rejects mean a wrong schema."""

    window: Annotated[int, Field(ge=100)] = 10_000
    """Records in a row over which the share of rejects is taken."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of rejects above which the worker stops (exit code 8)."""
    max_bytes: Annotated[int, Field(ge=64, le=16 << 20)] = 65_536
    """Bytes of a value above which a record is rejected."""


class Web(Section):
    """The worker's page: metrics, health, status."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address that the status page listens on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 6066
    """Port of the status page; 0 takes any free one."""


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
