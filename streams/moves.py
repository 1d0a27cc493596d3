"""Who would change segment from one model version to another: old -> new, in users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from online_models.assignment import assign
from online_models.version import Version
from state import features
from streams import frame


@dataclass(frozen=True, slots=True)
class Moves:
    old: list[int]  # ids of the old version's segments
    new: list[int]
    users: Counter[tuple[int, int]]  # by old and new segment

    @property
    def count(self) -> int:
        return self.users.total()

    @property
    def changed(self) -> int:
        return sum(number for (a, b), number in self.users.items() if a != b)


def moves(items: Iterable[tuple[bytes, bytes]], now: int, old: Version, new: Version) -> Moves:
    """Users and rows as of now (ms), as if the new version took over from the old one then: a user whom its hysteresis
    would keep is kept. DataError where a row's clock is later."""
    found: Counter[tuple[int, int]] = Counter()
    for _, stored in frame.chunks(items):
        heads, sums = frame.window_sums(stored, now)
        raw = features.raw(sums, heads["hours"].astype(np.int64))
        before = assign(old, raw).segment.astype(np.int64)
        after = assign(new, raw, np.arange(len(raw)), before).segment
        pairs, count = np.unique(np.stack((before, after), 1), axis=0, return_counts=True)
        for (a, b), number in zip(pairs.tolist(), count.tolist(), strict=True):
            found[a, b] += number
    return Moves(list(old.ids), list(new.ids), found)
