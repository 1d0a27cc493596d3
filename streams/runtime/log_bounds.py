"""What the brokers report about the topics at an assignment: their ids, and where their partitions begin and end."""

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

RETRY_SECONDS = 10.0  # how long requests are repeated while a coordinator or leader moves
RETENTION_KEY = "delete.retention.ms"
TopicAndPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class LogBounds:
    """Sources, commands and changelog of some partitions, read after former owners were fenced off."""

    topic_ids: dict[str, str]  # by topic; a topic that was deleted and created again has another id
    starts: dict[TopicAndPartition, int]
    ends: dict[TopicAndPartition, int]
    committed: dict[TopicAndPartition, int]  # by the workers' group, after a flush: proof that a progress existed
    tombstone_retention: int  # ms that a tombstone stays in the changelog


def read_log_bounds(settings: Settings, partitions: Iterable[int]) -> LogBounds:
    """Blocks for some requests. BrokerError where no broker answers, TopicsError where a topic is missing."""
    deadline = time.monotonic() + RETRY_SECONDS
    with administering(settings) as admin:
        while True:
            try:
                return _read_log_bounds(admin, settings, list(partitions))
            except KafkaError as error:
                if not error.retriable or time.monotonic() > deadline:
                    raise BrokerError(f"the offsets of the topics cannot be read: {error}") from None
                time.sleep(0.1)


def _read_log_bounds(admin: KafkaAdminClient, settings: Settings, partitions: list[int]) -> LogBounds:
    topics = [*settings.source_topics, settings.topic("commands"), settings.changelog]
    topic_partitions = [TopicPartition(topic, number) for topic in topics for number in partitions]
    group = f"{settings.prefix}{settings.application}"
    described = admin.describe_topics(topics)
    topic_ids = {topic["name"]: str(topic["topic_id"]) for topic in described if not topic["error_code"]}
    if missing := sorted(set(topics) - topic_ids.keys()):
        raise TopicsError(f"missing: {', '.join(missing)}")
    starts = admin.list_partition_offsets(dict.fromkeys(topic_partitions, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(topic_partitions, OffsetSpec.LATEST))
    committed = admin.list_group_offsets({group: None})[group]
    resources = [ConfigResource("TOPIC", settings.changelog, [RETENTION_KEY])]
    config = admin.describe_configs(resources, config_filter="all").get("topic", {}).get(settings.changelog, {})
    return LogBounds(
        topic_ids,
        {(tp.topic, tp.partition): answer.offset for tp, answer in starts.items()},
        {(tp.topic, tp.partition): answer.offset for tp, answer in ends.items()},
        {(tp.topic, tp.partition): answer.offset for tp, answer in committed.items() if answer.offset >= 0},
        int(config.get(RETENTION_KEY, {}).get("value") or TOMBSTONE_MS),
    )
