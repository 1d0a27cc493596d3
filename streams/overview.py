"""A deployment from its topics: who owns what, how far it is, what holds it back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kafka import IsolationLevel, KafkaAdminClient
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from streams import changelog
from streams.allowed import described
from streams.errors import BrokerError
from streams.progress import Progress
from streams.reach import unreachable_now
from streams.security import kafka_python_options
from streams.settings import Settings
from streams.status import told
from streams.topics import BOOTSTRAP_MS, ensure


def overview(settings: Settings) -> list[dict[str, Any]]:
    """A line a partition: owner (client and host), offset, end and lag of each source, and what its progress says.

    BrokerError where no broker answers, TopicsError where topics are missing.
    """
    ensure(settings, create=False)
    progress = asyncio.run(changelog.read_progress(settings))
    try:
        admin = KafkaAdminClient(**kafka_python_options(settings), bootstrap_timeout_ms=BOOTSTRAP_MS)
    except KafkaError:
        raise unreachable_now(settings) from None
    try:
        owners = _owners(admin, settings)
        ends = _ends(admin, settings)
    except KafkaError as error:
        raise BrokerError(f"{error}") from None
    finally:
        admin.close()
    return [
        {
            "partition": number,
            "owner": owners.get(number),
            "sources": _sources(settings, number, progress.get(number), ends),
            **told(progress.get(number, Progress())),
        }
        for number in range(settings.topics.partitions)
    ]


def _sources(
    settings: Settings, number: int, progress: Progress | None, ends: Mapping[tuple[str, int], int]
) -> dict[str, dict[str, int]]:
    found = {}
    for topic in settings.source_topics:
        source = progress.sources.get(topic) if progress else None
        offset, end = source.offset if source else 0, ends.get((topic, number), 0)
        found[topic] = {"offset": offset, "end": end, "lag": max(0, end - offset)}
    return found


def _owners(admin: KafkaAdminClient, settings: Settings) -> dict[int, str]:
    """Client and host of each partition's owner, as the workers' group has them."""
    group = f"{settings.prefix}{settings.application}"
    owners: dict[int, str] = {}
    for member in described(admin, group)["members"]:
        assignment = member.get("member_assignment") or {}
        for topic in assignment.get("assigned_partitions", ()):
            if topic["topic"] == settings.source_topics[0]:
                owners |= dict.fromkeys(topic["partitions"], f"{member['client_id']}{member['client_host']}")
    return owners


def _ends(admin: KafkaAdminClient, settings: Settings) -> dict[tuple[str, int], int]:
    latest = {
        TopicPartition(topic, number): OffsetSpec.LATEST
        for topic in settings.source_topics
        for number in range(settings.topics.partitions)
    }
    found = admin.list_partition_offsets(latest, isolation_level=IsolationLevel.READ_COMMITTED)
    return {(tp.topic, tp.partition): found_at.offset for tp, found_at in found.items()}
