"""The topics of a deployment: what they must be, creating them and checking them."""

from __future__ import annotations

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
FOREVER = (1 << 63) - 1  # ms
# how long a tombstone stays readable; local state older than half of it is rebuilt
TOMBSTONE_MS = 7 * 24 * HOUR_MS
COMPACTION_MS = 7 * 24 * HOUR_MS  # by then what an erasure replaced is compacted away


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as the design names it."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def specs(settings: Settings) -> list[TopicSpec]:
    """All topics: sources, outputs, internal ones."""
    chosen = settings.topics
    size = {
        "max.message.bytes": str(chosen.max_message_bytes),
        "message.timestamp.type": "CreateTime",
        "min.insync.replicas": str(chosen.min_insync_replicas),
    }
    compacted = size | {
        "cleanup.policy": "compact",
        "delete.retention.ms": str(TOMBSTONE_MS),
        "max.compaction.lag.ms": str(COMPACTION_MS),
    }
    small = compacted | {"segment.bytes": str(16 << 20)}  # one record is of interest, a few are written each second

    def kept(hours: int) -> dict[str, str]:
        return size | {"cleanup.policy": "delete", "retention.ms": str(hours * HOUR_MS if hours >= 0 else -1)}

    many = chosen.partitions
    # a re-keyed record keeps its time, whatever it is: one that the broker would not take would stand in the way
    any_time = {"message.timestamp.after.max.ms": str(FOREVER)}
    own = {settings.prefix + source.name: any_time for source in settings.rekeyed}
    return [
        *(TopicSpec(name, many, kept(chosen.source_retention) | own.get(name, {})) for name in settings.source_topics),
        *(TopicSpec(settings.rekeying(source), 1, small) for source in settings.rekeyed),
        TopicSpec(settings.topic("segment_changes"), many, kept(chosen.output_retention)),
        TopicSpec(settings.topic("segments"), many, compacted),
        TopicSpec(settings.topic("alerts"), many, kept(chosen.output_retention)),
        TopicSpec(settings.topic("dead_letters"), many, kept(chosen.dead_letter_retention)),
        TopicSpec(settings.topic("commands"), many, kept(chosen.command_retention)),
        TopicSpec(settings.topic("commands_results"), many, kept(chosen.command_retention)),
        TopicSpec(settings.topic("training_rows"), 1, kept(chosen.training_retention)),
        TopicSpec(settings.topic("models"), 1, compacted),
        TopicSpec(settings.topic("segment_lineage"), 1, kept(chosen.lineage_retention)),
        # small segments are compacted, and so recovered, sooner
        TopicSpec(settings.changelog, many, compacted | {"segment.bytes": str(256 << 20)}),
    ]


def ensure(settings: Settings, *, create: bool = True, strict: bool = False) -> list[tuple[TopicSpec, str]]:
    """Create what is missing and check what is there: each topic with "created" or "ok".

    strict: also what a worker can live with, that retention, replication and min ISR are no less than the settings say.
    TopicsError names the topics that are missing, and topic, key, expected and found of what is otherwise;
    BrokerError where no broker answers.
    """
    try:
        with administering(settings) as admin:
            wanted = specs(settings)
            found = {topic["name"]: topic["partitions"] for topic in admin.describe_topics()}
            there = {name: len(partitions) for name, partitions in found.items()}
            missing = [spec for spec in wanted if spec.name not in there]
            faults = _faults(admin, [spec for spec in wanted if spec.name in there], there, settings)
            faults += _raw_faults(admin, [source.rekey_from or "" for source in settings.rekeyed], there)
            if strict:
                faults += _short(admin, [spec for spec in wanted if spec.name in there], found, settings)
            if missing and not create:
                user = settings.kafka.sasl_username
                hidden = f" (or user {user!r} may not read or describe them)" if user else ""
                faults.append(f"missing: {', '.join(spec.name for spec in missing)}{hidden}")
            if faults:
                raise TopicsError("; ".join(faults))
            if missing:
                _create(admin, missing, settings.topics.replication)
            return [(spec, "created" if spec in missing else "ok") for spec in wanted]
    except TopicAlreadyExistsError:  # another worker creates them too
        return ensure(settings, create=create, strict=strict)
    except InvalidReplicationFactorError:
        raise TopicsError(
            f"topics.replication: {settings.topics.replication} is more than the brokers there are"
        ) from None
    except KafkaError as error:
        raise TopicsError(f"{error}") from None


def _create(admin: KafkaAdminClient, missing: list[TopicSpec], replication: int) -> None:
    admin.create_topics(
        [NewTopic(spec.name, spec.partitions, replication, topic_configs=spec.config) for spec in missing],
        wait_for_metadata=True,
    )


def _short(
    admin: KafkaAdminClient, existing: list[TopicSpec], found: dict[str, list[dict[str, Any]]], settings: Settings
) -> list[str]:
    """What is less than the settings say: records that go, or copies that lack, sooner than meant."""
    keys = ["retention.ms", "min.insync.replicas"]
    resources = [ConfigResource("TOPIC", spec.name, keys) for spec in existing]
    configs = admin.describe_configs(resources, config_filter="all").get("topic", {}) if resources else {}
    faults = []
    for spec in existing:
        for key in keys:
            expected, value = spec.config.get(key), configs.get(spec.name, {}).get(key, {}).get("value")
            if expected and value and _for_ever(int(value)) < _for_ever(int(expected)):
                faults.append(f"{spec.name}: {key}: expected at least {expected}, found {value}")
        copies = min(len(partition["replica_nodes"]) for partition in found[spec.name])
        if copies < settings.topics.replication:
            faults.append(f"{spec.name}: replication: expected {settings.topics.replication}, found {copies}")
    return faults


def _for_ever(value: int) -> float:
    """Kafka's -1."""
    return inf if value == -1 else value


def _faults(
    admin: KafkaAdminClient, existing: list[TopicSpec], partitions: dict[str, int], settings: Settings
) -> list[str]:
    """What would go wrong later: keys out of place, history gone, a flush that the broker will not take."""
    if not existing:
        return []
    keys = ["cleanup.policy", "max.message.bytes", "message.timestamp.type", "message.timestamp.after.max.ms"]
    rekeyed = {settings.prefix + source.name for source in settings.rekeyed}
    resources = [ConfigResource("TOPIC", spec.name, keys) for spec in existing]
    configs = admin.describe_configs(resources, config_filter="all").get("topic", {})
    faults = []
    for spec in existing:
        found = {key: entry["value"] for key, entry in configs.get(spec.name, {}).items()}
        if not found:
            faults.append(f"{spec.name}: its configuration may not be described by this user (DescribeConfigs)")
        expected = {"cleanup.policy": spec.config["cleanup.policy"]}
        if spec.name in rekeyed:
            expected |= {key: spec.config[key] for key in keys[2:]}
        written = spec.name not in settings.source_topics or spec.name in rekeyed
        if written and int(found.get("max.message.bytes", 1 << 30)) < int(spec.config["max.message.bytes"]):
            expected["max.message.bytes"] = spec.config["max.message.bytes"]
        if partitions[spec.name] != spec.partitions:
            faults.append(f"{spec.name}: partitions: expected {spec.partitions}, found {partitions[spec.name]}")
        faults += [
            f"{spec.name}: {key}: expected {value}, found {found[key]}"
            for key, value in expected.items()
            if key in found and found[key] != value
        ]
    return faults


def _raw_faults(admin: KafkaAdminClient, names: list[str], there: dict[str, int]) -> list[str]:
    """Topics of the shop's that are to be re-keyed: they are there, and keep more than the last record of a key."""
    faults = [f"missing: {name}: named by rekey_from, and not created here" for name in names if name not in there]
    found = [ConfigResource("TOPIC", name, ["cleanup.policy"]) for name in names if name in there]
    configs = admin.describe_configs(found, config_filter="all").get("topic", {}) if found else {}
    for name, entries in configs.items():
        if "compact" in (policy := entries["cleanup.policy"]["value"]):
            faults.append(f"{name}: cleanup.policy: expected delete, found {policy}")
    return faults


def described(settings: Settings, name: str) -> tuple[str, int]:
    """A topic's id (one of the same name that was made anew has another; "" where the broker tells none), and its
    partitions. TopicsError where it is missing."""
    try:
        with administering(settings) as admin:
            (found,) = admin.describe_topics([name])
    except UnknownTopicOrPartitionError:
        raise TopicsError(f"missing: {name}") from None
    except KafkaError as error:
        raise BrokerError(f"{name}: {error}") from None
    if not found["partitions"]:
        raise TopicsError(f"missing: {name}")
    return str(found.get("topic_id") or ""), len(found["partitions"])
