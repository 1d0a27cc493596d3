"""What sets a segment apart from the average shopper, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from online_models.clustering.hierarchy import siblings, super_segments
from online_models.version import Version
from state import features, rows
from streams.frame import window_sums

SHOWN = 3
LEAST = 0.3  # standard deviations from the average below which a feature is not worth naming
NO_FAMILY: dict[str, Any] = {"super_segment": None, "siblings": []}


def profiles(stored: Sequence[bytes], version: Version | None) -> list[dict[str, Any]]:
    """Segments by size: id, users, share of all users, description, super-segment and its other segments (None and
    none where the segment is of an older version). Rows as of their latest clock."""
    if not stored or version is None:
        return []
    heads, _, _ = rows.join(stored)
    now = int(heads["clock"].max())
    heads, sums = window_sums(stored, now)
    raw = features.raw(sums, heads["hours"].astype(np.int64))
    scaled = version.scaler.transform(raw)
    average, deviation = scaled.mean(0), scaled.std(0)
    family = families(version)
    out = []
    for segment in np.unique(heads["segment"]).tolist():
        if segment == rows.UNASSIGNED:
            continue
        mine = heads["segment"] == segment
        z = np.where(deviation > 0, (scaled[mine].mean(0) - average) / np.where(deviation > 0, deviation, 1.0), 0.0)
        words = [
            f"{'more' if z[i] > 0 else 'fewer'} {features.PHRASES[i]} ({_value(raw[mine], i)} against {_value(raw, i)})"
            for i in np.argsort(-np.abs(z), kind="stable")[:SHOWN].tolist()
            if abs(z[i]) >= LEAST
        ]
        count = int(mine.sum())
        out.append(
            {
                "id": segment, "users": count, "share": round(count / len(stored), 4),
                "description": "; ".join(words) or "like the average shopper", **family.get(segment, NO_FAMILY),
            }
        )  # fmt: skip
    return sorted(out, key=lambda line: -line["users"])


def families(version: Version) -> dict[int, dict[str, Any]]:
    """Of each segment the super-segment and the segments that share it."""
    found = super_segments(version.ids, version.centres, version.weights)
    others = siblings(version.ids, found)
    return {
        one: {"super_segment": family, "siblings": others[one]} for one, family in zip(version.ids, found, strict=True)
    }


def _value(raw: np.ndarray, feature: int) -> str:
    """A feature of a group in plain units: the ratio of its sums, or the mean count; money in major units."""
    name = features.NAMES[feature]
    if feature < features.R:
        below = raw[:, features.R + feature].sum()
        value = raw[:, feature].sum() / below if below else 0.0
    else:
        value = float(np.expm1(raw[:, features.R + feature]).mean())
    return f"{value / 100 if name in features.IN_MONEY else value:.2f}"
