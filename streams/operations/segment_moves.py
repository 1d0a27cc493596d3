"""Counts the users who would change segment from one model version to another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from online_models.assignment import assign
from online_models.version import Version
from state import features
from streams.offline import feature_table


@dataclass(frozen=True, slots=True)
class Moves:
    old: list[int]  # segment ids of the old version
    new: list[int]  # segment ids of the new version
    users: Counter[tuple[int, int]]  # number of users by old and new segment

    @property
    def count(self) -> int:
        """All users."""
        return self.users.total()

    @property
    def changed(self) -> int:
        """Users whose segment changes."""
        return sum(count for (old, new), count in self.users.items() if old != new)


def moves(items: Iterable[tuple[bytes, bytes]], now: int, old: Version, new: Version) -> Moves:
    """Assign each user by the old version, then by the new one with the old segment as the user's current one.

    So a user whom the new version's hysteresis keeps in the segment does not count as changed.

    items: user ids and rows. now: ms, the time as of which all users are assigned. DataError where a row's clock is
    later than `now`.
    """
    users: Counter[tuple[int, int]] = Counter()
    for _, stored in feature_table.chunks(items):
        heads, sums = feature_table.window_sums(stored, now)
        raw = features.raw(sums, heads["hours"].astype(np.int64))
        old_segments = assign(old, raw).segment.astype(np.int64)
        new_segments = assign(new, raw, np.arange(len(raw)), old_segments).segment
        pairs, counts = np.unique(np.stack((old_segments, new_segments), 1), axis=0, return_counts=True)
        for (old_segment, new_segment), count in zip(pairs.tolist(), counts.tolist(), strict=True):
            users[old_segment, new_segment] += count
    return Moves(list(old.ids), list(new.ids), users)
