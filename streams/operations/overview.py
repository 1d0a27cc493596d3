"""The status of each partition, read from the topics and the consumer groups: owner, offsets, lag, progress."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kafka import IsolationLevel, KafkaAdminClient
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from streams.config.settings import Settings, SourceSettings
from streams.errors import BrokerError
from streams.kafka import changelog
from streams.kafka.acl_check import describe_group
from streams.kafka.connectivity import administering
from streams.kafka.reader import reading
from streams.kafka.topics import ensure
from streams.processing import repartition
from streams.processing.progress import Progress
from streams.runtime.status import progress_status
from streams.services.repartitioner import read_newest_progress


def overview(settings: Settings) -> list[dict[str, Any]]:
    """The status of each partition: owner (client and host), offset, end and lag of each source, and its progress.

    BrokerError where no broker answers, TopicsError where topics are missing.
    """
    ensure(settings, create=False)
    progress = asyncio.run(changelog.read_progress(settings))
    repartitioning = asyncio.run(_repartition_progress(settings))
    try:
        with administering(settings) as admin:
            owners = _partition_owners(admin, settings)
            end_offsets = _end_offsets(admin, settings)
            repartitioners = {
                settings.prefix + source.name: _repartitioner(admin, settings, source, repartitioning[source.name])
                for source in settings.repartitioned
            }
    except KafkaError as error:
        raise BrokerError(f"{error}") from None
    return [
        {
            "partition": number,
            "owner": owners.get(number),
            "sources": _sources(settings, number, progress.get(number), end_offsets, repartitioners),
            **progress_status(progress.get(number, Progress())),
        }
        for number in range(settings.topics.partitions)
    ]


def _sources(
    settings: Settings,
    partition: int,
    progress: Progress | None,
    end_offsets: Mapping[tuple[str, int], int],
    repartitioners: Mapping[str, dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Offset, end and lag of each source topic of a partition; for a repartitioned source also its repartitioner."""
    sources: dict[str, dict[str, Any]] = {}
    for topic in settings.source_topics:
        applied = progress.sources.get(topic) if progress else None
        offset = applied.offset if applied else 0
        end = end_offsets.get((topic, partition), 0)
        sources[topic] = {"offset": offset, "end": end, "lag": max(0, end - offset)}
        if topic in repartitioners:
            sources[topic]["rekey"] = repartitioners[topic]
    return sources


async def _repartition_progress(settings: Settings) -> dict[str, repartition.Progress | None]:
    """The progress of each repartitioned source, by the name of the source."""
    if not settings.repartitioned:
        return {}
    async with reading(settings) as consumer:
        return {
            source.name: await read_newest_progress(consumer, settings.repartition_topic(source))
            for source in settings.repartitioned
        }


def _repartitioner(
    admin: KafkaAdminClient, settings: Settings, source: SourceSettings, progress: repartition.Progress | None
) -> dict[str, Any]:
    """The raw topic of a source, the owner of its repartitioning, and the records that are not repartitioned yet."""
    group = f"{settings.prefix}{settings.application}-rekey-{source.name}"
    owners = [
        f"{member['client_id']}{member['client_host']}"
        for member in describe_group(admin, group)["members"]
        if (member.get("member_assignment") or {}).get("assigned_partitions")
    ]
    raw_topic = source.rekey_from or ""
    (description,) = admin.describe_topics([raw_topic])
    ends = _latest_offsets(
        admin, [TopicPartition(raw_topic, number) for number in range(len(description["partitions"]))]
    )
    done = [log.offset for log in progress.logs] if progress else []
    lag = 0
    for tp, end in ends.items():
        offset = done[tp.partition] if tp.partition < len(done) else 0  # the topic may have got new partitions
        lag += max(0, end - offset)
    return {"topic": raw_topic, "owner": owners[0] if owners else None, "lag": lag}


def _partition_owners(admin: KafkaAdminClient, settings: Settings) -> dict[int, str]:
    """Client and host of each partition's owner, from the assignment of the workers' group."""
    group = f"{settings.prefix}{settings.application}"
    owners: dict[int, str] = {}
    for member in describe_group(admin, group)["members"]:
        assignment = member.get("member_assignment") or {}
        for topic in assignment.get("assigned_partitions", ()):
            # all sources are assigned alike, so one of them is enough
            if topic["topic"] == settings.source_topics[0]:
                owners |= dict.fromkeys(topic["partitions"], f"{member['client_id']}{member['client_host']}")
    return owners


def _end_offsets(admin: KafkaAdminClient, settings: Settings) -> dict[tuple[str, int], int]:
    """The end of each partition of the source topics, by topic and number."""
    tps = [
        TopicPartition(topic, number)
        for topic in settings.source_topics
        for number in range(settings.topics.partitions)
    ]
    return {(tp.topic, tp.partition): offset for tp, offset in _latest_offsets(admin, tps).items()}


def _latest_offsets(admin: KafkaAdminClient, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
    """The last stable offset of each partition."""
    results = admin.list_partition_offsets(
        dict.fromkeys(tps, OffsetSpec.LATEST), isolation_level=IsolationLevel.READ_COMMITTED
    )
    return {tp: result.offset for tp, result in results.items()}
