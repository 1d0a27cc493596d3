"""Describes a model version in words and numbers, from the version alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from online_models.lineage import Lineage
from online_models.version import Version
from state import features
from streams.operations.segment_profile import MAX_NAMED, MIN_DEVIATION, families
from streams.processing.outputs.cloudevents import rfc3339


def summarize(version: Version) -> dict[str, Any]:
    """What `shoal models list` shows of a version."""
    return {
        "version": version.number,
        "parent": version.parent,
        "learned_to": version.learned_to,
        "event_time": rfc3339(np.array([version.event_time]))[0],
        "rows": version.rows,
        "segments": len(version.ids),
        "space": version.space,
        "encoder": version.encoder.ident if version.encoder else None,
        "error": version.error,
        "lineage": [describe_lineage(event) for event in version.lineage],
        "checksum": version.checksum,
    }


def describe_lineage(event: Lineage) -> str:
    """A lineage event in words, as in "7 merged into 3 100%"."""
    if event.event in ("born", "split"):
        return f"{event.segment} {event.event} of {_describe_shares(event.parents, 'people in no segment')}"
    if event.event == "restored":
        return f"{event.segment} restored"
    return f"{event.segment} {event.event} into {_describe_shares(event.heirs, 'no segment')}"


def _describe_shares(shares: Sequence[tuple[int, float]], no_segment: str) -> str:
    """Segments with their shares; a negative id stands for no segment."""
    texts = [f"{no_segment if segment < 0 else segment} {share:.0%}" for segment, share in shares]
    return ", ".join(texts) or no_segment


def segments(version: Version) -> list[dict[str, Any]]:
    """The segments of a version, by id.

    Each has: segment, share (of the rows that the version was learned from), features, super_segment and siblings
    (online_models/clustering/hierarchy.py). `features` names those in which the segment's mean deviates most from the
    mean of all segments; `apart` is the deviation in scaled units.
    """
    weights, profile = np.array(version.weights), version.profile
    average = np.zeros(profile.shape[1])
    for weight, segment_mean in zip(weights, profile, strict=True):
        average += weight * segment_mean
    average /= max(float(weights.sum()), 1e-9)
    family_of = families(version)
    summaries: list[dict[str, Any]] = []
    for i in np.argsort(version.ids, kind="stable").tolist():
        segment, deviation = version.ids[i], profile[i] - average
        largest = np.argsort(-np.abs(deviation), kind="stable")[:MAX_NAMED].tolist()
        named = [
            {"feature": version.names[j], "apart": round(float(deviation[j]), 3)}
            for j in largest
            if abs(deviation[j]) >= MIN_DEVIATION
        ]
        summary = {"segment": segment, "share": round(version.weights[i], 4), "features": named}
        summaries.append(summary | family_of[segment])
    return summaries


def words(segment: dict[str, Any]) -> str:
    """The features of a segment of segments() in words, as in "more orders per cart, fewer pages in the last hour"."""
    phrases = dict(zip(features.NAMES, features.PHRASES, strict=True))
    texts = [
        f"{'more' if named['apart'] > 0 else 'fewer'} {phrases.get(named['feature'], named['feature'])}"
        for named in segment["features"]
    ]
    return ", ".join(texts) or "like the average shopper"
