"""The topics of a deployment: what they must be, creating them and checking them."""

from __future__ import annotations

from dataclasses import dataclass, field

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, NewTopic
from kafka.errors import InvalidReplicationFactorError, KafkaError, TopicAlreadyExistsError

from streams.errors import TopicsError
from streams.reach import unreachable_now
from streams.security import kafka_python_options
from streams.settings import Settings

HOUR_MS = 3_600_000
BOOTSTRAP_MS = 10_000
# how long a tombstone stays readable; local state older than half of it is rebuilt
TOMBSTONE_MS = 7 * 24 * HOUR_MS


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
        "min.insync.replicas": str(min(chosen.min_insync_replicas, chosen.replication)),
    }
    compacted = size | {"cleanup.policy": "compact", "delete.retention.ms": str(TOMBSTONE_MS)}

    def kept(hours: int) -> dict[str, str]:
        return size | {"cleanup.policy": "delete", "retention.ms": str(hours * HOUR_MS if hours >= 0 else -1)}

    many = chosen.partitions
    return [
        *(TopicSpec(name, many, kept(chosen.source_retention)) for name in settings.source_topics),
        TopicSpec(settings.topic("segment_changes"), many, kept(chosen.output_retention)),
        TopicSpec(settings.topic("segments"), many, compacted),
        TopicSpec(settings.topic("alerts"), many, kept(chosen.output_retention)),
        TopicSpec(settings.topic("dead_letters"), many, kept(chosen.dead_letter_retention)),
        TopicSpec(settings.topic("training_rows"), 1, kept(chosen.training_retention)),
        TopicSpec(settings.topic("models"), 1, compacted),
        # small segments are compacted, and so recovered, sooner
        TopicSpec(settings.changelog, many, compacted | {"segment.bytes": str(256 << 20)}),
    ]


def ensure(settings: Settings, *, create: bool = True) -> list[tuple[TopicSpec, str]]:
    """Create what is missing and check what is there: each topic with "created" or "ok".

    TopicsError names the topics that are missing, and topic, key, expected and found of what is otherwise;
    BrokerError where no broker answers.
    """
    try:
        admin = KafkaAdminClient(**kafka_python_options(settings), bootstrap_timeout_ms=BOOTSTRAP_MS)
    except KafkaError:
        raise unreachable_now(settings) from None
    try:
        wanted = specs(settings)
        there = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
        missing = [spec for spec in wanted if spec.name not in there]
        faults = _faults(admin, [spec for spec in wanted if spec.name in there], there, settings)
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
        return ensure(settings, create=create)
    except InvalidReplicationFactorError:
        raise TopicsError(
            f"topics.replication: {settings.topics.replication} is more than the brokers there are"
        ) from None
    except KafkaError as error:
        raise TopicsError(f"{error}") from None
    finally:
        admin.close()


def _create(admin: KafkaAdminClient, missing: list[TopicSpec], replication: int) -> None:
    admin.create_topics(
        [NewTopic(spec.name, spec.partitions, replication, topic_configs=spec.config) for spec in missing],
        wait_for_metadata=True,
    )


def _faults(
    admin: KafkaAdminClient, existing: list[TopicSpec], partitions: dict[str, int], settings: Settings
) -> list[str]:
    """What would go wrong later: keys out of place, history gone, a flush that the broker will not take."""
    if not existing:
        return []
    keys = ["cleanup.policy", "max.message.bytes"]
    resources = [ConfigResource("TOPIC", spec.name, keys) for spec in existing]
    configs = admin.describe_configs(resources, config_filter="all").get("topic", {})
    faults = []
    for spec in existing:
        found = {key: entry["value"] for key, entry in configs.get(spec.name, {}).items()}
        if not found:
            faults.append(f"{spec.name}: its configuration may not be described by this user (DescribeConfigs)")
        expected = {"cleanup.policy": spec.config["cleanup.policy"]}
        if spec.name not in settings.source_topics and int(found.get("max.message.bytes", 1 << 30)) < int(
            spec.config["max.message.bytes"]
        ):
            expected["max.message.bytes"] = spec.config["max.message.bytes"]
        if partitions[spec.name] != spec.partitions:
            faults.append(f"{spec.name}: partitions: expected {spec.partitions}, found {partitions[spec.name]}")
        faults += [
            f"{spec.name}: {key}: expected {value}, found {found[key]}"
            for key, value in expected.items()
            if key in found and found[key] != value
        ]
    return faults
