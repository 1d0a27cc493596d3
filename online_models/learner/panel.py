"""The people that versions are compared on: of each the newest row, the segment held, and where it was before."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.clustering.scaler import Scaler
from online_models.distances import Floats
from online_models.holdout import held_out
from online_models.lineage import NOWHERE
from online_models.training_rows import USER, Ints, Rows
from online_models.version import Version, assign

DAY = 86_400_000
ACTIVE = 7 * DAY  # whose newest row is older is not learned from: the features look back a week
SPAN = 14 * DAY  # whose newest row is older is let go
LOOKS = 7  # days for which it is known in which segment people were
APART = 3 * DAY  # two rows of a person tell how people change, if so much time lies between them
HALF = 3 * DAY  # half-life of what such pairs have told


class Kept(msgspec.Struct):
    """A panel as bytes."""

    user: bytes
    now: bytes
    segment: bytes
    past: bytes
    raw: bytes
    pairs: float
    change: list[float]
    seen: int


class Panel:
    """n people in the order in which they came; at most `most` after a trim.

    Columns: now (n,) ms of the newest row, raw (n, 2R + L) the row, segment (n,) the id held, past (n, LOOKS) the ids
    held at the ends of the days before, the latest first; NOWHERE while a person is not known.
    """

    def __init__(self, width: int, memory: Sequence[float], most: int) -> None:
        self.memory = np.array(memory) * DAY
        self.most = most
        self.user = np.zeros(0, USER)
        self.now = np.zeros(0, np.int64)
        self.segment = np.zeros(0, np.int64)
        self.past = np.zeros((0, LOOKS), np.int64)
        self.raw = np.zeros((0, width))
        self.pairs = 0.0  # how many pairs of rows of a person, decayed
        self.change = np.zeros(len(memory))  # (F,) sum over them of half the squared differences, in scaled units
        self._at: dict[bytes, int] = {}
        self._seen = -1  # day of the last look

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Rows, version: Version | None) -> None:
        """Rows in log order; each person's segment is held as the version says, row by row."""
        if not len(rows):
            return
        slots = self._slots(rows.user)
        order = np.argsort(slots, kind="stable")
        slot, now, raw = slots[order], rows.now[order], rows.raw[order]
        last = np.r_[slot[1:] != slot[:-1], True]
        mine = slot[last]
        if version is not None:
            row = np.cumsum(np.r_[0, slot[1:] != slot[:-1]])
            self.segment[mine] = assign(version, raw, row, self.segment[mine]).segment[last]
            self._pair(slot, now, raw, version.scaler)
        self.now[mine] = np.maximum(self.now[mine], now[last])
        self.raw[mine] = raw[last]

    def _slots(self, user: NDArray[np.void]) -> Ints:
        """Where people are; those who are new get a place."""
        names = [one.tobytes() for one in user]
        first = len(self._at)
        for name in names:
            self._at.setdefault(name, len(self._at))
        new = len(self._at) - first
        if new:
            self.user = np.concatenate((self.user, np.frombuffer(b"".join(list(self._at)[first:]), USER)))
            self.now = np.concatenate((self.now, np.full(new, -1)))
            self.segment = np.concatenate((self.segment, np.full(new, NOWHERE)))
            self.past = np.concatenate((self.past, np.full((new, LOOKS), NOWHERE)))
            self.raw = np.concatenate((self.raw, np.zeros((new, self.raw.shape[1]))))
        return np.array([self._at[name] for name in names], np.int64)

    def _pair(self, slot: Ints, now: Ints, raw: Floats, scaler: Scaler) -> None:
        """What each row and the one before it of the same person say of how people change."""
        first = np.r_[True, slot[1:] != slot[:-1]]
        then, before = np.r_[0, now[:-1]], np.r_[raw[:1], raw[:-1]]
        then[first], before[first] = self.now[slot[first]], self.raw[slot[first]]
        at = np.flatnonzero((then >= 0) & (now - then >= APART) & (now - then < SPAN) & ~self.held_out[slot])
        if len(at):
            apart = scaler.scaled(raw[at]) - scaler.scaled(before[at])
            # of a feature that looks back a month only a part is new after three days
            renewed = np.minimum(1.0, (now - then)[at, None] / np.maximum(self.memory, 1.0))
            self.pairs += len(at)
            self.change += np.cumsum(apart * apart / renewed, axis=0)[-1] / 2

    def age(self, time: int, since: int) -> None:
        """A look at each new day, what pairs have told fades, and a trim."""
        day = time // DAY
        if self._seen >= 0:
            for _ in range(min(LOOKS, int(day - self._seen))):
                self.past = np.concatenate((self.segment[:, None], self.past[:, :-1]), axis=1)
        self._seen = max(self._seen, day)
        fading = 0.5 ** (max(0, time - since) / HALF)
        self.pairs *= fading
        self.change *= fading
        self.trim(time)

    def trim(self, time: int) -> None:
        """Let go of those who did not come for long, then of those who are too many: first of who did not come lately,
        then of the largest pseudonyms, so that the same people stay."""
        keep = self.now >= time - SPAN
        if keep.sum() > self.most:
            name = np.ascontiguousarray(self.user).view(">u8").reshape(-1, 2)[:, 0]
            at = np.flatnonzero(keep)
            keep[at[np.lexsort((name[at], ~self.active(time)[at]))[self.most :]]] = False
        if not keep.all():
            self.user, self.now, self.raw = self.user[keep], self.now[keep], self.raw[keep]
            self.segment, self.past = self.segment[keep], self.past[keep]
            self._at = {one.tobytes(): i for i, one in enumerate(self.user)}

    def active(self, time: int) -> NDArray[np.bool_]:
        return self.now >= time - ACTIVE

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Those who are never learned from (n,)."""
        return held_out(self.user)

    def judge(self, version: Version) -> None:
        """Everybody as a new version says. Those whom it moves count as having been there all the time that they were
        where they are no more: what is known of the past is what people did, not what versions did."""
        now = assign(version, self.raw, np.arange(len(self)), self.segment).segment.astype(np.int64)
        moved = (now != self.segment) & (self.segment != NOWHERE)
        past = self.past[moved]
        self.past[moved] = np.where(past == self.segment[moved, None], now[moved, None], past)
        self.segment = now

    def before(self) -> Ints:
        """The segment (n,) that each person was in LOOKS days ago; NOWHERE: not known then. While nobody is known for
        so long, the earliest that is known."""
        known = np.flatnonzero((self.past != NOWHERE).any(0))
        return self.past[:, known[-1]].copy() if len(known) else self.segment.copy()

    def keep(self) -> Kept:
        return Kept(
            self.user.tobytes(), self.now.astype("<i8").tobytes(), self.segment.astype("<i4").tobytes(),
            self.past.astype("<i4").tobytes(), self.raw.astype("<f8").tobytes(), self.pairs, self.change.tolist(),
            self._seen,
        )  # fmt: skip

    def restore(self, kept: Kept) -> None:
        """As `keep` had it."""
        self.user = np.frombuffer(kept.user, USER)
        self.now = np.frombuffer(kept.now, "<i8").astype(np.int64)
        self.segment = np.frombuffer(kept.segment, "<i4").astype(np.int64)
        self.past = np.frombuffer(kept.past, "<i4").astype(np.int64).reshape(-1, LOOKS)
        self.raw = np.frombuffer(kept.raw, "<f8").astype(np.float64).reshape(-1, self.raw.shape[1])
        self.pairs, self.change, self._seen = kept.pairs, np.array(kept.change), kept.seen
        self._at = {one.tobytes(): i for i, one in enumerate(self.user)}
