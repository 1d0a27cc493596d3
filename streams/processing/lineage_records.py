"""What became of segments, as records of `segment-lineage`: segments are born, split, merged, retired, by versions."""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.version import Version
from streams.processing.cloudevents import encoder, rfc3339


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
    event, time = encoder("segment-lineage"), rfc3339(np.array([version.event_time]))[0]
    out = []
    for i, one in enumerate(version.lineage):
        parents, heirs = (
            [_Share(None if segment < 0 else segment, share) for segment, share in side]
            for side in (one.parents, one.heirs)
        )
        data = _Event(one.event, one.segment, parents, heirs, one.people, version.number)
        segment = str(one.segment)
        out.append((segment.encode(), event(f"lineage-{version.number}-{i}", segment, time, data)))
    return out
