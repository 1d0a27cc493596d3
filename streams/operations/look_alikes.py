"""Finds the users most similar to a user, and the features that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from online_models.distances import distances
from online_models.version import Version
from state import features, rows
from streams.errors import DataError
from streams.offline.feature_table import latest, raw_matrix, window_sums

CHUNK = 50_000  # rows at a time
MAX_SHARED = 3  # shared features that are named
MIN_DEVIATION = 0.5  # scaled units from the average, on the same side for both users, from which a feature is shared


def similar(
    users: Sequence[bytes], stored: Sequence[bytes], version: Version, user: bytes, count: int
) -> list[dict[str, Any]]:
    """The `count` users nearest to a user, nearest first, as of the latest clock of all rows.

    users, stored: ids and rows of all users, in the same order. Users are compared by the version's embedding, or by
    the scaled window features where the version has no encoder. Each result has: user, segment, distance, shared (for
    each shared feature: its name, a phrase, and the scaled value of both users).

    DataError where the user does not exist.
    """
    try:
        own_index = users.index(user)
    except ValueError:
        raise DataError("no such user") from None
    now = latest(stored)
    own_scaled, own_point = _features_and_points([stored[own_index]], now, version)
    chunks = [_features_and_points(stored[i : i + CHUNK], now, version) for i in range(0, len(stored), CHUNK)]
    scaled = np.concatenate([chunk_scaled for chunk_scaled, _ in chunks])
    distance = np.sqrt(np.concatenate([distances(points, own_point)[0] for _, points in chunks]))
    distance[own_index] = np.inf
    average = scaled.mean(0)
    nearest = np.argsort(distance, kind="stable")[: min(count, len(users) - 1)].tolist()
    results: list[dict[str, Any]] = []
    for i in nearest:
        segment = int(rows.join([stored[i]]).heads["segment"][0])
        results.append(
            {
                "user": users[i].decode(),
                "segment": None if segment == rows.UNASSIGNED else segment,
                "distance": round(float(distance[i]), 6),
                "shared": _shared_features(own_scaled[0], scaled[i], average),
            }
        )
    return results


def _shared_features(own: np.ndarray, other: np.ndarray, average: np.ndarray) -> list[dict[str, Any]]:
    """The features (F,) in which two users deviate most from the average in the same direction."""
    deviation = np.minimum(np.abs(other - average), np.abs(own - average))
    deviation[np.sign(other - average) != np.sign(own - average)] = 0
    largest = np.argsort(-deviation, kind="stable")[:MAX_SHARED].tolist()
    return [
        {
            "feature": features.NAMES[j],
            "words": f"{'more' if own[j] > average[j] else 'fewer'} {features.PHRASES[j]}",
            "value": round(float(own[j]), 6),
            "other": round(float(other[j]), 6),
        }
        for j in largest
        if deviation[j] >= MIN_DEVIATION
    ]


def _features_and_points(stored: Sequence[bytes], now: int, version: Version) -> tuple[np.ndarray, np.ndarray]:
    """Scaled features (n, F), and the points (n, D) that are compared: embeddings, or the scaled features."""
    raw = raw_matrix(*window_sums(stored, now))
    scaled = version.scaler.transform(raw)
    encoder = version.encoder
    return scaled, scaled if encoder is None else encoder.encode(encoder.features(raw))
