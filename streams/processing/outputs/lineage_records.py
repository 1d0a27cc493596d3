"""Records of `segment-lineage`: which segments a model version brought, split, merged and retired."""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.version import Version
from streams.processing.outputs.cloudevents import encoder, rfc3339


class _Share(msgspec.Struct):
    segment: int | None  # None: people who were in no segment before
    share: float


class _Event(msgspec.Struct):
    event: str
    segment: int
    parents: list[_Share]
    heirs: list[_Share]
    people: int
    model_version: int


def documents(version: Version) -> list[tuple[bytes, bytes]]:
    """(key, record) of each event that a version brought; the same whoever publishes it."""
    encode, time = encoder("segment-lineage"), rfc3339(np.array([version.event_time]))[0]
    records = []
    for i, event in enumerate(version.lineage):
        parents, heirs = (
            [_Share(None if segment < 0 else segment, share) for segment, share in side]
            for side in (event.parents, event.heirs)
        )
        data = _Event(event.event, event.segment, parents, heirs, event.people, version.number)
        segment = str(event.segment)
        records.append((segment.encode(), encode(f"lineage-{version.number}-{i}", segment, time, data)))
    return records
