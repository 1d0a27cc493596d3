"""The panel: the people that versions are compared on, each with the newest row, the segment held, and those before."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.assignment import assign
from online_models.clustering.scaler import Scaler
from online_models.distances import Floats
from online_models.holdout import in_holdout
from online_models.segment_ids import NO_SEGMENT
from online_models.training_rows import DAY_MS, USER, Ints, TrainingRows
from online_models.version import Version

ACTIVE = 7 * DAY_MS  # whose newest row is older is not learned from: the features look back a week
SPAN = 14 * DAY_MS  # whose newest row is older is let go
HISTORY = 7  # days for which it is known in which segment people were
PAIR_GAP = 3 * DAY_MS  # two rows of a person tell how people change, if so much time lies between them
HALF_LIFE = 3 * DAY_MS  # of what such pairs have told


class PanelState(msgspec.Struct):
    """A panel as stored; columns are little-endian bytes."""

    user: bytes
    now: bytes
    segment: bytes
    past: bytes
    raw: bytes
    pairs: float
    change: list[float]
    day: int = msgspec.field(name="seen")


class Panel:
    """n people in the order in which they came; at most `most` after a trim.

    Columns: user (n,) pseudonyms, now (n,) ms of the newest row, raw (n, 2R + L) the row, segment (n,) the id held,
    past (n, HISTORY) the ids held at the ends of the days before, the latest first; NO_SEGMENT while a person is not
    known.
    """

    def __init__(self, width: int, memory: Sequence[float], most: int) -> None:
        """width: 2R + L; memory (F,): days that each feature looks back."""
        self.memory = np.array(memory) * DAY_MS
        self.most = most
        self.user = np.zeros(0, USER)
        self.now = np.zeros(0, np.int64)
        self.segment = np.zeros(0, np.int64)
        self.past = np.zeros((0, HISTORY), np.int64)
        self.raw = np.zeros((0, width))
        self.pairs = 0.0  # how many pairs of rows of a person, decayed
        self.change = np.zeros(len(memory))  # (F,) sum over them of half the squared differences, in scaled units
        self._place: dict[bytes, int] = {}  # of each user
        self._day = -1  # the last one at whose end the history was written

    def __len__(self) -> int:
        return len(self.user)

    def add(self, rows: TrainingRows, version: Version | None) -> None:
        """Take in rows in log order; each person's segment is held as the version says, row by row."""
        if not len(rows):
            return
        places = self._places(rows)
        order = np.argsort(places, kind="stable")
        place, now, raw = places[order], rows.now[order], rows.raw[order]
        begins = np.r_[True, place[1:] != place[:-1]]
        newest = np.r_[begins[1:], True]
        person = place[newest]
        if version is not None:
            user = np.cumsum(begins) - 1
            self.segment[person] = assign(version, raw, user, self.segment[person]).segment[newest]
            self._learn_change(place, now, raw, version.scaler)
        self.now[person] = np.maximum(self.now[person], now[newest])
        self.raw[person] = raw[newest]

    def _places(self, rows: TrainingRows) -> Ints:
        """The place (n,) of each row's user in the columns; those who are new get one."""
        users = rows.pseudonyms()
        known = len(self._place)
        for user in users:
            self._place.setdefault(user, len(self._place))
        new = len(self._place) - known
        if new:
            self.user = np.concatenate((self.user, np.frombuffer(b"".join(list(self._place)[known:]), USER)))
            self.now = np.concatenate((self.now, np.full(new, -1)))
            self.segment = np.concatenate((self.segment, np.full(new, NO_SEGMENT)))
            self.past = np.concatenate((self.past, np.full((new, HISTORY), NO_SEGMENT)))
            self.raw = np.concatenate((self.raw, np.zeros((new, self.raw.shape[1]))))
        return np.array([self._place[user] for user in users], np.int64)

    def _learn_change(self, place: Ints, now: Ints, raw: Floats, scaler: Scaler) -> None:
        """What each row and the one before it of the same person say of how people change."""
        first = np.r_[True, place[1:] != place[:-1]]
        then, before = np.r_[0, now[:-1]], np.r_[raw[:1], raw[:-1]]
        then[first], before[first] = self.now[place[first]], self.raw[place[first]]
        gap = now - then
        pair = np.flatnonzero((then >= 0) & (gap >= PAIR_GAP) & (gap < SPAN) & ~self.holdout[place])
        if len(pair):
            difference = scaler.scaled(raw[pair]) - scaler.scaled(before[pair])
            # of a feature that looks back a month only a part is new after three days
            renewed = np.minimum(1.0, gap[pair, None] / np.maximum(self.memory, 1.0))
            self.pairs += len(pair)
            self.change += np.cumsum(difference * difference / renewed, axis=0)[-1] / 2

    def advance(self, time: int, since: int) -> None:
        """Write the history of each day that has ended, let what pairs have told fade, and trim; times in ms."""
        day = time // DAY_MS
        if self._day >= 0:
            for _ in range(min(HISTORY, int(day - self._day))):
                self.past = np.concatenate((self.segment[:, None], self.past[:, :-1]), axis=1)
        self._day = max(self._day, day)
        fading = 0.5 ** (max(0, time - since) / HALF_LIFE)
        self.pairs *= fading
        self.change *= fading
        self.trim(time)

    def trim(self, time: int) -> None:
        """Let go of those who did not come for long, then of those who are too many: first of who did not come lately,
        then of the largest pseudonyms, so that the same people stay."""
        keep = self.now >= time - SPAN
        if keep.sum() > self.most:
            name = np.ascontiguousarray(self.user).view(">u8").reshape(-1, 2)[:, 0]
            kept = np.flatnonzero(keep)
            order = np.lexsort((name[kept], ~self.active(time)[kept]))
            keep[kept[order[self.most :]]] = False
        if not keep.all():
            self.user, self.now, self.raw = self.user[keep], self.now[keep], self.raw[keep]
            self.segment, self.past = self.segment[keep], self.past[keep]
            self._index_users()

    def _index_users(self) -> None:
        self._place = {user.tobytes(): place for place, user in enumerate(self.user)}

    def active(self, time: int) -> NDArray[np.bool_]:
        """Who (n,) came within a week of a time (ms)."""
        return self.now >= time - ACTIVE

    @property
    def holdout(self) -> NDArray[np.bool_]:
        """Those who are never learned from (n,)."""
        return in_holdout(self.user)

    def reassign(self, version: Version) -> None:
        """Everybody as a new version says. Those whom it moves count as having been there all the time that they were
        where they are no more: what is known of the past is what people did, not what versions did."""
        alone = np.arange(len(self))
        segment = assign(version, self.raw, alone, self.segment).segment.astype(np.int64)
        moved = (segment != self.segment) & (self.segment != NO_SEGMENT)
        past = self.past[moved]
        self.past[moved] = np.where(past == self.segment[moved, None], segment[moved, None], past)
        self.segment = segment

    def days_ago(self) -> Ints:
        """The segment (n,) that each person was in HISTORY days ago; NO_SEGMENT: not known then. While nobody is known
        for so long, the earliest that is known."""
        known = np.flatnonzero((self.past != NO_SEGMENT).any(0))
        return self.past[:, known[-1]].copy() if len(known) else self.segment.copy()

    def state(self) -> PanelState:
        return PanelState(
            user=self.user.tobytes(),
            now=self.now.astype("<i8").tobytes(),
            segment=self.segment.astype("<i4").tobytes(),
            past=self.past.astype("<i4").tobytes(),
            raw=self.raw.astype("<f8").tobytes(),
            pairs=self.pairs,
            change=self.change.tolist(),
            day=self._day,
        )

    def restore(self, state: PanelState) -> None:
        """As it was when state() was asked for."""
        self.user = np.frombuffer(state.user, USER)
        self.now = np.frombuffer(state.now, "<i8").astype(np.int64)
        self.segment = np.frombuffer(state.segment, "<i4").astype(np.int64)
        self.past = np.frombuffer(state.past, "<i4").astype(np.int64).reshape(-1, HISTORY)
        self.raw = np.frombuffer(state.raw, "<f8").astype(np.float64).reshape(-1, self.raw.shape[1])
        self.pairs, self.change, self._day = state.pairs, np.array(state.change), state.day
        self._index_users()
