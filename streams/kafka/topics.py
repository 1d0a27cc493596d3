"""The topics of a deployment: their specifications, and how they are created and checked."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from math import inf
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, NewTopic
from kafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from streams.config.settings import Settings
from streams.errors import BrokerError, TopicsError
from streams.kafka.connectivity import administering

HOUR_MS = 3_600_000
NO_LIMIT_MS = (1 << 63) - 1
# How long a tombstone stays readable. Local state older than half of it is rebuilt from the changelog.
TOMBSTONE_MS = 7 * 24 * HOUR_MS
COMPACTION_MS = 7 * 24 * HOUR_MS  # after this time the values that an erasure replaced are compacted away

Configs = dict[str, dict[str, Any]]  # topic -> key -> entry of DescribeConfigs


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic must be: its full name, number of partitions, and configuration."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def specs(settings: Settings) -> list[TopicSpec]:
    """The specifications of all topics: sources, outputs, and internal ones."""
    chosen = settings.topics
    common = {
        "max.message.bytes": str(chosen.max_message_bytes),
        "message.timestamp.type": "CreateTime",
        "min.insync.replicas": str(chosen.min_insync_replicas),
    }
    compacted = common | {
        "cleanup.policy": "compact",
        "delete.retention.ms": str(TOMBSTONE_MS),
        "max.compaction.lag.ms": str(COMPACTION_MS),
    }
    # only the last record of a progress topic is used, and several are written each second
    progress = compacted | {"segment.bytes": str(16 << 20)}
    # small segments are compacted sooner, and so recovered sooner
    changelog = compacted | {"segment.bytes": str(256 << 20)}

    def retained(hours: int) -> dict[str, str]:
        retention = hours * HOUR_MS if hours >= 0 else -1
        return common | {"cleanup.policy": "delete", "retention.ms": str(retention)}

    # A repartitioned record keeps its time, whatever it is. If the broker refused one, repartitioning would stop there.
    any_time = {"message.timestamp.after.max.ms": str(NO_LIMIT_MS)}
    repartitioned = {settings.prefix + source.name for source in settings.repartitioned}
    sources = [
        TopicSpec(
            name,
            chosen.partitions,
            retained(chosen.source_retention) | (any_time if name in repartitioned else {}),
        )
        for name in settings.source_topics
    ]
    return [
        *sources,
        *(TopicSpec(settings.repartition_topic(source), 1, progress) for source in settings.repartitioned),
        TopicSpec(settings.topic("segment_changes"), chosen.partitions, retained(chosen.output_retention)),
        TopicSpec(settings.topic("segments"), chosen.partitions, compacted),
        TopicSpec(settings.topic("alerts"), chosen.partitions, retained(chosen.output_retention)),
        TopicSpec(settings.topic("dead_letters"), chosen.partitions, retained(chosen.dead_letter_retention)),
        TopicSpec(settings.topic("commands"), chosen.partitions, retained(chosen.command_retention)),
        TopicSpec(settings.topic("commands_results"), chosen.partitions, retained(chosen.command_retention)),
        TopicSpec(settings.topic("training_rows"), 1, retained(chosen.training_retention)),
        TopicSpec(settings.topic("models"), 1, compacted),
        TopicSpec(settings.topic("segment_lineage"), 1, retained(chosen.lineage_retention)),
        TopicSpec(settings.changelog, chosen.partitions, changelog),
    ]


def ensure(settings: Settings, *, create: bool = True, strict: bool = False) -> list[tuple[TopicSpec, str]]:
    """Create the topics that are missing and check those that exist. Returns each with "created" or "ok".

    create: False only checks; a missing topic is then an error. strict: also checks retention, min.insync.replicas and
    replication, with which a worker can run.

    TopicsError names the missing topics, and for each difference the topic, the key, and the expected and found value.
    BrokerError where no broker answers.
    """
    try:
        with administering(settings) as admin:
            all_specs = specs(settings)
            partitions = {topic["name"]: topic["partitions"] for topic in admin.describe_topics()}
            existing = [spec for spec in all_specs if spec.name in partitions]
            missing = [spec for spec in all_specs if spec.name not in partitions]
            faults = _config_faults(admin, existing, partitions, settings)
            raw_topics = [source.rekey_from or "" for source in settings.repartitioned]
            faults += _raw_topic_faults(admin, raw_topics, partitions)
            if strict:
                faults += _durability_faults(admin, existing, partitions, settings)
            if missing and not create:
                user = settings.kafka.sasl_username
                hint = f" (or user {user!r} may not read or describe them)" if user else ""
                faults.append(f"missing: {', '.join(spec.name for spec in missing)}{hint}")
            if faults:
                raise TopicsError("; ".join(faults))
            if missing:
                _create(admin, missing, settings.topics.replication)
            return [(spec, "created" if spec in missing else "ok") for spec in all_specs]
    except TopicAlreadyExistsError:  # another worker created it in the meantime
        return ensure(settings, create=create, strict=strict)
    except InvalidReplicationFactorError:
        raise TopicsError(
            f"topics.replication: {settings.topics.replication} is more than the number of brokers"
        ) from None
    except KafkaError as error:
        raise TopicsError(f"{error}") from None


def _create(admin: KafkaAdminClient, missing: list[TopicSpec], replication: int) -> None:
    admin.create_topics(
        [NewTopic(spec.name, spec.partitions, replication, topic_configs=spec.config) for spec in missing],
        wait_for_metadata=True,
    )


def _describe_configs(admin: KafkaAdminClient, names: list[str], keys: list[str]) -> Configs:
    if not names:
        return {}
    resources = [ConfigResource("TOPIC", name, keys) for name in names]
    configs: Configs = admin.describe_configs(resources, config_filter="all").get("topic", {})
    return configs


def _config_faults(
    admin: KafkaAdminClient, existing: list[TopicSpec], partitions: dict[str, list[Any]], settings: Settings
) -> list[str]:
    """Differences with which a worker must not run: users in other partitions, records deleted or refused."""
    timestamp_keys = ["message.timestamp.type", "message.timestamp.after.max.ms"]
    keys = ["cleanup.policy", "max.message.bytes", *timestamp_keys]
    configs = _describe_configs(admin, [spec.name for spec in existing], keys)
    repartitioned = {settings.prefix + source.name for source in settings.repartitioned}
    faults: list[str] = []
    for spec in existing:
        actual = {key: entry["value"] for key, entry in configs.get(spec.name, {}).items()}
        if not actual:
            faults.append(f"{spec.name}: its configuration may not be described by this user (DescribeConfigs)")
        expected = {"cleanup.policy": spec.config["cleanup.policy"]}
        if spec.name in repartitioned:
            expected |= {key: spec.config[key] for key in timestamp_keys}
        # shoal writes to all topics but those sources that the shop fills
        written = spec.name not in settings.source_topics or spec.name in repartitioned
        if written and int(actual.get("max.message.bytes", 1 << 30)) < int(spec.config["max.message.bytes"]):
            expected["max.message.bytes"] = spec.config["max.message.bytes"]
        count = len(partitions[spec.name])
        if count != spec.partitions:
            faults.append(f"{spec.name}: partitions: expected {spec.partitions}, found {count}")
        faults += [
            f"{spec.name}: {key}: expected {value}, found {actual[key]}"
            for key, value in expected.items()
            if key in actual and actual[key] != value
        ]
    return faults


def _raw_topic_faults(admin: KafkaAdminClient, names: list[str], existing: Container[str]) -> list[str]:
    """Faults of the topics that shoal repartitions: they must exist, and must not be compacted."""
    faults = [
        f"missing: {name}: named by rekey_from, and not created by shoal" for name in names if name not in existing
    ]
    configs = _describe_configs(admin, [name for name in names if name in existing], ["cleanup.policy"])
    for name, entries in configs.items():
        policy = entries["cleanup.policy"]["value"]
        if "compact" in policy:
            faults.append(f"{name}: cleanup.policy: expected delete, found {policy}")
    return faults


def _durability_faults(
    admin: KafkaAdminClient, existing: list[TopicSpec], partitions: dict[str, list[Any]], settings: Settings
) -> list[str]:
    """Topics that keep records for a shorter time, or on fewer replicas, than the settings say."""
    keys = ["retention.ms", "min.insync.replicas"]
    configs = _describe_configs(admin, [spec.name for spec in existing], keys)
    faults: list[str] = []
    for spec in existing:
        for key in keys:
            expected = spec.config.get(key)
            actual = configs.get(spec.name, {}).get(key, {}).get("value")
            if expected and actual and _unlimited_as_inf(actual) < _unlimited_as_inf(expected):
                faults.append(f"{spec.name}: {key}: expected at least {expected}, found {actual}")
        replicas = min(len(partition["replica_nodes"]) for partition in partitions[spec.name])
        if replicas < settings.topics.replication:
            faults.append(f"{spec.name}: replication: expected {settings.topics.replication}, found {replicas}")
    return faults


def _unlimited_as_inf(value: str) -> float:
    """A configuration value as a number; Kafka's -1 means no limit."""
    return inf if int(value) == -1 else int(value)


def describe_topic(settings: Settings, name: str) -> tuple[str, int]:
    """The id of a topic ("" where the broker has none), and its number of partitions.

    A topic that was deleted and created again under the same name has another id. TopicsError where it is missing,
    BrokerError where it cannot be described.
    """
    try:
        with administering(settings) as admin:
            (topic,) = admin.describe_topics([name])
    except UnknownTopicOrPartitionError:
        raise TopicsError(f"missing: {name}") from None
    except KafkaError as error:
        raise BrokerError(f"{name}: {error}") from None
    if not topic["partitions"]:
        raise TopicsError(f"missing: {name}")
    return str(topic.get("topic_id") or ""), len(topic["partitions"])
