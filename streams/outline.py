"""A model version in words and numbers, from the version alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from online_models.lineage import Lineage
from online_models.version import Version
from state import features
from streams.cloudevents import rfc3339
from streams.profile import LEAST, SHOWN, families


def version(one: Version) -> dict[str, Any]:
    """What `shoal models list` says of a version."""
    return {
        "version": one.number, "parent": one.parent, "learned_to": one.learned_to,
        "event_time": rfc3339(np.array([one.event_time]))[0], "rows": one.rows, "segments": len(one.ids),
        "space": one.space, "encoder": one.encoder.ident if one.encoder else None, "error": one.error,
        "lineage": [lineage(event) for event in one.lineage], "checksum": one.checksum,
    }  # fmt: skip


def lineage(event: Lineage) -> str:
    """One event in the life of a segment, in words."""
    if event.event in ("born", "split"):
        return f"{event.segment} {event.event} of {_shares(event.parents, 'people in no segment')}"
    if event.event == "restored":
        return f"{event.segment} restored"
    return f"{event.segment} {event.event} into {_shares(event.heirs, 'no segment')}"


def _shares(sides: Sequence[tuple[int, float]], nowhere: str) -> str:
    return ", ".join(f"{nowhere if one < 0 else one} {share:.0%}" for one, share in sides) or nowhere


def segments(one: Version) -> list[dict[str, Any]]:
    """The segments of a version by id: their share of the rows that it was learned from, and what sets them apart,
    and which others are of the same super-segment (online_models/clustering/hierarchy.py).

    A feature's value is how far the mean of the segment's people lies from that of all, in scaled units.
    """
    weights, profile = np.array(one.weights), one.profile
    average = np.zeros(profile.shape[1])
    for weight, line in zip(weights, profile, strict=True):
        average += weight * line
    average /= max(float(weights.sum()), 1e-9)
    out, family = [], families(one)
    for at in np.argsort(one.ids, kind="stable").tolist():
        apart = profile[at] - average
        chosen = [i for i in np.argsort(-np.abs(apart), kind="stable")[:SHOWN].tolist() if abs(apart[i]) >= LEAST]
        features = [{"feature": one.names[i], "apart": round(float(apart[i]), 3)} for i in chosen]
        found = {"segment": one.ids[at], "share": round(one.weights[at], 4), "features": features}
        out.append(found | family[one.ids[at]])
    return out


def words(segment: dict[str, Any]) -> str:
    """What sets a segment apart: "more orders per cart, fewer pages in the last hour"."""
    phrases = dict(zip(features.NAMES, features.PHRASES, strict=True))
    said = [
        f"{'more' if one['apart'] > 0 else 'fewer'} {phrases.get(one['feature'], one['feature'])}"
        for one in segment["features"]
    ]
    return ", ".join(said) or "like the average shopper"
