"""A deployment from its topics: who owns what, how far it is, what holds it back."""

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
from streams.kafka.acl_check import described_group
from streams.kafka.connectivity import administering
from streams.kafka.reader import reading
from streams.kafka.topics import ensure
from streams.processing import repartition
from streams.processing.progress import Progress
from streams.runtime.status import progress_status
from streams.services.repartitioner import read_newest_progress


def overview(settings: Settings) -> list[dict[str, Any]]:
    """A line a partition: owner (client and host), offset, end and lag of each source, and what its progress says.

    BrokerError where no broker answers, TopicsError where topics are missing.
    """
    ensure(settings, create=False)
    progress = asyncio.run(changelog.read_progress(settings))
    rekeyed = asyncio.run(_rekeyed(settings))
    try:
        with administering(settings) as admin:
            owners = _owners(admin, settings)
            ends = _ends(admin, settings)
            rekeyers = {
                settings.prefix + source.name: _rekeyer(admin, settings, source, rekeyed[source.name])
                for source in settings.rekeyed
            }
    except KafkaError as error:
        raise BrokerError(f"{error}") from None
    return [
        {
            "partition": number,
            "owner": owners.get(number),
            "sources": _sources(settings, number, progress.get(number), ends, rekeyers),
            **progress_status(progress.get(number, Progress())),
        }
        for number in range(settings.topics.partitions)
    ]


def _sources(
    settings: Settings,
    number: int,
    progress: Progress | None,
    ends: Mapping[tuple[str, int], int],
    rekeyers: Mapping[str, dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for topic in settings.source_topics:
        source = progress.sources.get(topic) if progress else None
        offset, end = source.offset if source else 0, ends.get((topic, number), 0)
        found[topic] = {"offset": offset, "end": end, "lag": max(0, end - offset)}
        if topic in rekeyers:
            found[topic]["rekey"] = rekeyers[topic]
    return found


async def _rekeyed(settings: Settings) -> dict[str, repartition.Progress | None]:
    """The progress of each re-keyed source, by its name."""
    if not settings.rekeyed:
        return {}
    async with reading(settings) as consumer:
        return {
            source.name: await read_newest_progress(consumer, settings.rekeying(source)) for source in settings.rekeyed
        }


def _rekeyer(
    admin: KafkaAdminClient, settings: Settings, source: SourceSettings, progress: repartition.Progress | None
) -> dict[str, Any]:
    """Of one source: the raw topic, the owner, and the records not sent on yet."""
    group = f"{settings.prefix}{settings.application}-rekey-{source.name}"
    owners = [
        f"{member['client_id']}{member['client_host']}"
        for member in described_group(admin, group)["members"]
        if (member.get("member_assignment") or {}).get("assigned_partitions")
    ]
    raw = source.rekey_from or ""
    (topic,) = admin.describe_topics([raw])
    tps = {TopicPartition(raw, number): OffsetSpec.LATEST for number in range(len(topic["partitions"]))}
    ends = admin.list_partition_offsets(tps, isolation_level=IsolationLevel.READ_COMMITTED)
    at = [log.offset for log in progress.logs] if progress else []
    lag = sum(max(0, found.offset - (at[tp.partition] if tp.partition < len(at) else 0)) for tp, found in ends.items())
    return {"topic": raw, "owner": owners[0] if owners else None, "lag": lag}


def _owners(admin: KafkaAdminClient, settings: Settings) -> dict[int, str]:
    """Client and host of each partition's owner, as the workers' group has them."""
    group = f"{settings.prefix}{settings.application}"
    owners: dict[int, str] = {}
    for member in described_group(admin, group)["members"]:
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
