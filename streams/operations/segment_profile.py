"""What sets a segment apart from the average shopper, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from online_models.clustering.hierarchy import siblings, super_segments
from online_models.version import Version
from state import features, rows
from streams.offline.feature_table import window_sums

MAX_NAMED = 3  # features that a description names
MIN_DEVIATION = 0.3  # standard deviations from the average from which a feature is named
NO_FAMILY: dict[str, Any] = {"super_segment": None, "siblings": []}  # of a segment of an older version


def profiles(stored: Sequence[bytes], version: Version | None) -> list[dict[str, Any]]:
    """The segments of the users' rows, largest first, as of the latest clock of all rows.

    Each has: id, users, share of all users, description, super_segment and siblings (NO_FAMILY where the version does
    not have the segment). Empty without rows or version.
    """
    if not stored or version is None:
        return []
    heads = rows.join(stored).heads
    now = int(heads["clock"].max())
    heads, sums = window_sums(stored, now)
    raw = features.raw(sums, heads["hours"].astype(np.int64))
    scaled = version.scaler.transform(raw)
    average, deviation = scaled.mean(0), scaled.std(0)
    family_of = families(version)
    segment_profiles: list[dict[str, Any]] = []
    for segment in np.unique(heads["segment"]).tolist():
        if segment == rows.UNASSIGNED:
            continue
        members = heads["segment"] == segment
        difference = scaled[members].mean(0) - average
        z_scores = np.where(deviation > 0, difference / np.where(deviation > 0, deviation, 1.0), 0.0)
        count = int(members.sum())
        segment_profiles.append(
            {
                "id": segment,
                "users": count,
                "share": round(count / len(stored), 4),
                "description": _describe(z_scores, raw[members], raw),
                **family_of.get(segment, NO_FAMILY),
            }
        )
    return sorted(segment_profiles, key=lambda profile: -profile["users"])


def _describe(z_scores: np.ndarray, members: np.ndarray, everyone: np.ndarray) -> str:
    """Name the features (F,) with the largest z-scores; members and everyone are raw feature rows (n, columns)."""
    phrases = []
    for i in np.argsort(-np.abs(z_scores), kind="stable")[:MAX_NAMED].tolist():
        if abs(z_scores[i]) >= MIN_DEVIATION:
            comparison = "more" if z_scores[i] > 0 else "fewer"
            values = f"{_format_value(members, i)} against {_format_value(everyone, i)}"
            phrases.append(f"{comparison} {features.PHRASES[i]} ({values})")
    return "; ".join(phrases) or "like the average shopper"


def families(version: Version) -> dict[int, dict[str, Any]]:
    """The super-segment of each segment, and the other segments that belong to it, by segment id."""
    super_of = super_segments(version.ids, version.centres, version.weights)
    siblings_of = siblings(version.ids, super_of)
    return {
        segment: {"super_segment": super_segment, "siblings": siblings_of[segment]}
        for segment, super_segment in zip(version.ids, super_of, strict=True)
    }


def _format_value(raw: np.ndarray, feature: int) -> str:
    """The value of a feature over a group of users (n, columns): the ratio of sums, or the mean count.

    Money is in major units.
    """
    name = features.NAMES[feature]
    if feature < features.R:  # a ratio: numerators are in the first R columns, denominators in the next R
        denominator = raw[:, features.R + feature].sum()
        value = raw[:, feature].sum() / denominator if denominator else 0.0
    else:
        value = float(np.expm1(raw[:, features.R + feature]).mean())
    return f"{value / 100 if name in features.IN_MONEY else value:.2f}"
