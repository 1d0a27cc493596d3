"""Look-alikes: the shoppers whose embeddings lie nearest to one's, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from online_models.distances import distances
from online_models.version import Version
from state import features, rows
from streams.errors import DataError
from streams.frame import latest, raw_matrix, window_sums

CHUNK = 50_000  # rows at a time
SHARED = 3  # features that a line names
LEAST = 0.5  # scaled units off the average, on the same side, from which a feature is shared


def similar(
    users: Sequence[bytes], stored: Sequence[bytes], version: Version, user: bytes, count: int
) -> list[dict[str, Any]]:
    """The nearest `count` others by the encoder's embedding, by the windows' features where there is none; as of the
    latest clock. Lines: user, segment, distance, shared (feature in words, its value for both in scaled units).

    DataError where there is no such user.
    """
    try:
        at = users.index(user)
    except ValueError:
        raise DataError("no such user") from None
    now = latest(stored)
    mine, here = _placed([stored[at]], now, version)
    parts = [_placed(stored[a : a + CHUNK], now, version) for a in range(0, len(stored), CHUNK)]
    scaled = np.concatenate([part for part, _ in parts])
    distance = np.sqrt(np.concatenate([distances(place, here)[0] for _, place in parts]))
    distance[at] = np.inf
    average = scaled.mean(0)
    out = []
    for i in np.argsort(distance, kind="stable")[: min(count, len(users) - 1)].tolist():
        apart = np.minimum(np.abs(scaled[i] - average), np.abs(mine[0] - average))
        apart[np.sign(scaled[i] - average) != np.sign(mine[0] - average)] = 0
        named = [j for j in np.argsort(-apart, kind="stable")[:SHARED].tolist() if apart[j] >= LEAST]
        segment = int(rows.join([stored[i]])[0]["segment"][0])
        out.append(
            {
                "user": users[i].decode(), "segment": None if segment == rows.UNASSIGNED else segment,
                "distance": round(float(distance[i]), 6),
                "shared": [
                    {
                        "feature": features.NAMES[j],
                        "words": f"{'more' if mine[0, j] > average[j] else 'fewer'} {features.PHRASES[j]}",
                        "value": round(float(mine[0, j]), 6), "other": round(float(scaled[i, j]), 6),
                    }
                    for j in named
                ],
            }
        )  # fmt: skip
    return out


def _placed(stored: Sequence[bytes], now: int, version: Version) -> tuple[np.ndarray, np.ndarray]:
    """Scaled features (n, F), and where they lie (n, D)."""
    raw = raw_matrix(*window_sums(stored, now))
    scaled = version.scaler.transform(raw)
    encoder = version.encoder
    return scaled, scaled if encoder is None else encoder.encode(encoder.features(raw))
