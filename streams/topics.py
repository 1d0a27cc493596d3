"""The topics of a deployment: what they must be, creating them and checking them."""

from __future__ import annotations

from dataclasses import dataclass, field

from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaError

from streams.errors import BrokerError, TopicsError
from streams.security import kafka_python_options
from streams.settings import Settings

HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as the design names it."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def specs(settings: Settings) -> list[TopicSpec]:
    """All topics: sources, outputs, internal ones."""
    chosen = settings.topics
    size = {"max.message.bytes": str(chosen.max_message_bytes)}
    compacted = size | {"cleanup.policy": "compact"}

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
        TopicSpec(settings.changelog, many, compacted | {"segment.bytes": str(256 << 20)}),
    ]


def ensure(settings: Settings, *, create: bool = True) -> list[tuple[TopicSpec, str]]:
    """Create what is missing and check what is there: each topic with "created" or "ok".

    TopicsError names the topics that are missing or have another number of partitions; BrokerError where no
    broker answers.
    """
    try:
        admin = KafkaAdminClient(**kafka_python_options(settings))
    except KafkaError as error:
        raise BrokerError(f"no broker at {settings.kafka.bootstrap_servers}: {error}") from None
    try:
        wanted = specs(settings)
        there = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics()}
        missing = [spec for spec in wanted if spec.name not in there]
        wrong = [
            f"{spec.name} has {there[spec.name]} partitions, expected {spec.partitions}"
            for spec in wanted
            if spec.name in there and there[spec.name] != spec.partitions
        ]
        if wrong:
            raise TopicsError("; ".join(wrong))
        if missing and not create:
            raise TopicsError(f"missing: {', '.join(spec.name for spec in missing)}")
        if missing:
            least = {"min.insync.replicas": str(min(settings.topics.min_insync_replicas, settings.topics.replication))}
            admin.create_topics(
                [
                    NewTopic(
                        spec.name, spec.partitions, settings.topics.replication,
                        topic_configs=spec.config | least,
                    )
                    for spec in missing
                ],
                wait_for_metadata=True,
            )  # fmt: skip
        return [(spec, "created" if spec in missing else "ok") for spec in wanted]
    except KafkaError as error:
        raise TopicsError(f"{error}") from None
    finally:
        admin.close()
