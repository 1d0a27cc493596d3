"""What the brokers say of partitions at an assignment: which topics these are, and where their logs begin and end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, OffsetSpec
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from streams.config.settings import Settings
from streams.errors import BrokerError, TopicsError
from streams.kafka.connectivity import administering
from streams.kafka.topics import TOMBSTONE_MS

PATIENCE = 10.0  # seconds for a coordinator or leader that moves
At = tuple[str, int]  # topic, partition


@dataclass(frozen=True, slots=True)
class Standing:
    """Sources and changelog of some partitions, seen once former owners were fenced off."""

    ids: dict[str, str]  # of topics; a topic that was deleted and created again has another
    starts: dict[At, int]
    ends: dict[At, int]
    committed: dict[At, int]  # of the workers' group, written after commits: a sign that there was a progress
    tombstones: int  # ms that a tombstone stays in the changelog


def look(settings: Settings, partitions: Iterable[int]) -> Standing:
    """Blocks for some requests. BrokerError where no broker answers, TopicsError where a topic is gone."""
    deadline = time.monotonic() + PATIENCE
    with administering(settings) as admin:
        while True:
            try:
                return _look(admin, settings, list(partitions))
            except KafkaError as error:  # a coordinator or leader that moves
                if not error.retriable or time.monotonic() > deadline:
                    raise BrokerError(f"the topics cannot be looked at: {error}") from None
                time.sleep(0.1)


def _look(admin: KafkaAdminClient, settings: Settings, partitions: list[int]) -> Standing:
    topics = [*settings.source_topics, settings.topic("commands"), settings.changelog]
    every = [TopicPartition(topic, number) for topic in topics for number in partitions]
    group = f"{settings.prefix}{settings.application}"
    ids = {topic["name"]: str(topic["topic_id"]) for topic in admin.describe_topics(topics) if not topic["error_code"]}
    if gone := sorted(set(topics) - ids.keys()):
        raise TopicsError(f"missing: {', '.join(gone)}")
    starts = admin.list_partition_offsets(dict.fromkeys(every, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(every, OffsetSpec.LATEST))
    committed = admin.list_group_offsets({group: None})[group]
    key = "delete.retention.ms"
    asked = [ConfigResource("TOPIC", settings.changelog, [key])]
    config = admin.describe_configs(asked, config_filter="all").get("topic", {}).get(settings.changelog, {})
    return Standing(
        ids,
        {(tp.topic, tp.partition): found.offset for tp, found in starts.items()},
        {(tp.topic, tp.partition): found.offset for tp, found in ends.items()},
        {(tp.topic, tp.partition): found.offset for tp, found in committed.items() if found.offset >= 0},
        int(config.get(key, {}).get("value") or TOMBSTONE_MS),
    )
