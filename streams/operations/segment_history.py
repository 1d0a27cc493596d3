"""Segments and what became of them, from `segment-lineage`, `models` and the partitions' progress."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec
from aiokafka.structs import TopicPartition

from streams.config.settings import Settings
from streams.errors import TopicsError
from streams.kafka import changelog, model_store
from streams.kafka.reader import reading, to_end
from streams.operations import version_summary
from streams.operations.segment_profile import NO_FAMILY


async def history(settings: Settings, segment: int | None = None, since: int | None = None) -> list[dict[str, Any]]:
    """The events in the lives of segments, oldest first: those that a segment has to do with, those since a time (ms)
    of the record. TopicsError where there is no topic."""
    topic = settings.topic("segment_lineage")
    found: dict[str, dict[str, Any]] = {}
    async with reading(settings) as consumer:
        if topic not in await consumer.topics():
            raise TopicsError(f"missing: {topic}")
        at = TopicPartition(topic, 0)
        consumer.assign([at])
        async for record in to_end(consumer, await consumer.beginning_offsets([at])):
            event = msgspec.json.decode(record.value)
            told = {"time": event["time"], **event["data"]}
            if (segment is None or segment in _concerned(told)) and (since is None or record.timestamp >= since):
                found[event["id"]] = told  # the same id is the same event
    return list(found.values())


def _concerned(told: dict[str, Any]) -> set[int]:
    return {told["segment"], *(one["segment"] for side in ("parents", "heirs") for one in told[side])}


def present(settings: Settings) -> list[dict[str, Any]]:
    """The segments of the newest version by id, with the users that the partitions count in each; and those that the
    newest version has not, while users are still in them. DataError where there is no version yet."""
    version = model_store.pick(asyncio.run(model_store.kept(settings)))
    progress = asyncio.run(changelog.read_progress(settings))
    users: Counter[int] = Counter()
    for part in progress.values():
        users.update({segment: size for segment, size in part.sizes.items() if size})
    found = {
        one["segment"]: {**one, "description": version_summary.words(one), "users": users.pop(one["segment"], 0)}
        for one in version_summary.segments(version)
    }
    gone = {
        segment: {
            "segment": segment,
            "share": 0.0,
            "features": [],
            **NO_FAMILY,
            "description": "of an older version",
            "users": count,
        }
        for segment, count in users.items()
    }
    return [one for _, one in sorted((found | gone).items())]
