"""The current segments and the history of all segments, from `segment-lineage`, `models` and the progress records."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import msgspec

from streams.config.settings import Settings
from streams.kafka import changelog, model_store
from streams.kafka.reader import single_partition
from streams.operations import version_summary
from streams.operations.segment_profile import NO_FAMILY


async def history(settings: Settings, segment: int | None = None, since: int | None = None) -> list[dict[str, Any]]:
    """The events of the segment lineage (born, split, merged, retired, restored), oldest first.

    segment: only events in which this segment takes part. since: only records from this time (ms) on. TopicsError
    where the topic does not exist.
    """
    events: dict[str, dict[str, Any]] = {}
    async for record in single_partition(settings, settings.topic("segment_lineage")):
        envelope = msgspec.json.decode(record.value)
        event = {"time": envelope["time"], **envelope["data"]}
        concerned = segment is None or segment in _segments_of(event)
        if concerned and (since is None or record.timestamp >= since):
            events[envelope["id"]] = event  # two records with one id are the same event, published twice
    return list(events.values())


def _segments_of(event: dict[str, Any]) -> set[int]:
    """The segments that take part in a lineage event."""
    relatives = [*event["parents"], *event["heirs"]]
    return {event["segment"], *(relative["segment"] for relative in relatives)}


def present(settings: Settings) -> list[dict[str, Any]]:
    """The current segments by id, each with its number of users according to the partitions' progress.

    They are the segments of the newest version, and older ones that still have users. DataError where there is no
    version yet.
    """
    version = model_store.select(asyncio.run(model_store.read_versions(settings)))
    progress = asyncio.run(changelog.read_progress(settings))
    users: Counter[int] = Counter()
    for partition in progress.values():
        users.update({segment: size for segment, size in partition.sizes.items() if size})
    by_segment = {
        summary["segment"]: {
            **summary,
            "description": version_summary.words(summary),
            "users": users.pop(summary["segment"], 0),
        }
        for summary in version_summary.segments(version)
    }
    for segment, count in users.items():  # what the newest version does not have
        by_segment[segment] = {
            "segment": segment,
            "share": 0.0,
            "features": [],
            **NO_FAMILY,
            "description": "of an older version",
            "users": count,
        }
    return [summary for _, summary in sorted(by_segment.items())]
