"""A small search over the learner's parameters, judged by what segments are for.

Each candidate is a learner that runs over the log from its start; a row is judged by the version that was in force when
it came, so that no version has seen what it is judged by. Candidates are ranked on the earlier rows; the best one is
compared on the later ones, which had no say in the choice: the best of many is otherwise the luckiest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from online_models.distances import Floats
from online_models.evaluation.bootstrap import DRAWS, Interval, mean_by_user
from online_models.evaluation.promotion import LEAST_EVENTS, LEAST_ROWS, OUTCOMES, SLACK
from online_models.evaluation.scoring import known, log_loss, mean, rates, silhouette
from online_models.learner.learner import Learner, Params
from online_models.learner.panel import ACTIVE, DAY
from online_models.lineage import NOWHERE
from online_models.outcomes import HORIZON, Outcomes
from online_models.training_rows import ROW, Ints, Rows
from online_models.version import Version, assign, index

CHURN = 0.01  # a day: up to it churn is no objection
CHUNK = 2_000  # rows between two looks at the clock
EARLIER = 0.6  # of the scored rows, in time order, candidates are ranked by

# what is tried: names of Params that are settings of [learner] too
SPACE: Mapping[str, Sequence[Any]] = {
    "k_least": (2, 4, 6, 8, 10, 12, 16, 20),
    "k_most": (4, 8, 12, 16, 20, 24),
    "window": (2_000, 4_000, 6_000, 10_000, 15_000),
    "hysteresis": (0.0, 0.1, 0.15, 0.2, 0.3),
    "half_life": (43_200.0, 86_400.0, 129_600.0, 259_200.0, 604_800.0),
    "clip": (1.5, 2.0, 3.0, 4.0),
    "floor": (0.0005, 0.002, 0.005, 0.02),
}


def candidates(base: Params, trials: int, seed: int) -> Iterator[Params]:
    """The parameters in force, then others, each once, at most `trials` in all: every second one differs in a single
    parameter, so that what a parameter does can be seen; the rest are drawn from the whole space."""
    rng = np.random.Generator(np.random.PCG64(seed))
    names = list(SPACE)
    seen = [base]
    yield base
    for i in range(100 * trials):
        if len(seen) >= trials:
            return
        changed = [names[int(rng.integers(len(names)))]] if i % 2 == 0 else names
        drawn = {name: SPACE[name][int(rng.integers(len(SPACE[name])))] for name in changed}
        one = msgspec.structs.replace(base, **drawn)
        if one not in seen and one.k_least <= min(one.first_rows, one.window, one.k_most):
            seen.append(one)
            yield one


def changes(base: Params, one: Params) -> dict[str, Any]:
    """In what a candidate differs from the parameters in force."""
    return {name: getattr(one, name) for name in SPACE if getattr(one, name) != getattr(base, name)}


@dataclass(frozen=True, slots=True)
class Played:
    """What a learner made of the n records of kind ROW."""

    segment: Ints  # (n,) id, NOWHERE before the first version
    apart: Floats  # (n,) simplified silhouette, nan before the first version
    churn_day: float  # share of active people whom new versions moved, a day
    versions: int
    segments: int  # of the last version


def play(params: Params, rows: Rows, step: Callable[[int, int], bool] = lambda done, of: True) -> Played | None:
    """Run a learner over the log. step: how many rows of how many are done; False gives up, and None comes back."""
    mine = rows.take(rows.kind == ROW)
    ride, learner = _Ride(mine), Learner.start(params)
    for start in range(0, len(mine), CHUNK):
        part = mine.take(slice(start, start + CHUNK))
        found = [msgspec.structs.replace(one, state=b"") for one in learner.learn(part)]
        cuts = [start, *(int(np.searchsorted(mine.offset, one.learned_to)) for one in found), start + len(part)]
        for i, (a, b) in enumerate(pairwise(cuts)):
            if i:
                ride.swap(found[i - 1])
            ride.judge(a, b)
        if not step(start + len(part), len(mine)):
            return None
    return ride.played()


class _Ride:
    """Users as a worker would have them, from row to row and from version to version."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._user = np.unique(rows.user, return_inverse=True)[1].reshape(-1)
        users = int(self._user.max(initial=-1)) + 1
        self._held = np.full(users, NOWHERE)
        self._newest = np.full(users, -1)  # row
        self._segment = np.full(len(rows), NOWHERE)
        self._apart = np.full(len(rows), np.nan)
        self._version: Version | None = None
        self._moved = 0.0
        self._first = self._last = 0
        self._count = 0

    def judge(self, a: int, b: int) -> None:
        """Rows a to b, by the version in force."""
        if a == b:
            return
        at = a + np.argsort(self._user[a:b], kind="stable")
        user = self._user[at]
        end = np.r_[user[1:] != user[:-1], True]
        if self._version is not None:
            self._segment[at], self._apart[at] = self._assigned(self._version, at)
            self._held[user[end]] = self._segment[at[end]]
        self._newest[user[end]] = at[end]

    def swap(self, version: Version) -> None:
        """A new version: all who were there in the last days are judged anew."""
        now = version.event_time
        there = np.flatnonzero(self._newest >= 0)
        active = there[self._rows.now[self._newest[there]] >= now - ACTIVE]
        before = self._held[active]
        after = self._assigned(version, self._newest[active])[0] if len(active) else before
        if self._version is None:
            self._first = now
        elif len(active):
            self._moved += float(np.count_nonzero(after != before)) / len(active)
        self._held[active] = after
        self._version, self._last = version, now
        self._count += 1

    def _assigned(self, version: Version, at: Ints) -> tuple[Ints, Floats]:
        """Segments and silhouettes of rows, each user's together and in order."""
        mine, row = np.unique(self._user[at], return_inverse=True)
        raw = self._rows.raw[at]
        judged = assign(version, raw, row.reshape(-1), self._held[mine])
        segment = judged.segment.astype(np.int64)
        where = index(version.ids, segment)
        return segment, silhouette(version.place(raw, judged.features), version.centres, where)

    def played(self) -> Played:
        days = max(1.0, (self._last - self._first) / DAY)
        segments = len(self._version.ids) if self._version else 0
        return Played(self._segment, self._apart, self._moved / days, self._count, segments)


class Score(msgspec.Struct, frozen=True):
    """A candidate against the parameters in force, on one span of the scored rows."""

    gains: dict[str, float]  # by outcome, share of the log-loss of the shop's rate
    gain: Interval  # mean over the outcomes, with the bootstrap interval over users
    of_shop: float  # what its segments save of the log-loss of the shop's rate, mean over the outcomes
    separation: float  # mean simplified silhouette


class Trial(msgspec.Struct, frozen=True):
    changes: dict[str, Any]  # what differs from the parameters in force
    segments: int
    versions: int
    churn_day: float
    earlier: Score  # ranked by it
    later: Score  # had no say in the choice

    @property
    def better(self) -> bool:
        """On the later rows alone."""
        return self.later.gain.low > 0


class Judge:
    """What candidates are judged by: rows with a known outcome, at whose time enough outcomes were known."""

    def __init__(self, rows: Rows, came: Outcomes, base: Played, horizon: int = HORIZON, seed: int = 0) -> None:
        """base: what the parameters in force made of the same rows."""
        self._now = rows.now[came.at]
        self._user = np.unique(rows.user[came.at], return_inverse=True)[1].reshape(-1)
        self._came, self._horizon, self._seed, self._base = came, horizon, seed, base
        self._ripe = np.flatnonzero(came.ripe)
        enough = known(self._now[self._ripe], horizon) >= LEAST_ROWS
        scored = self._ripe[enough & (base.segment[self._ripe] >= 0)]
        scored = scored[np.argsort(self._now[scored], kind="stable")]
        cut = int(EARLIER * len(scored))
        self.spans = scored[:cut], scored[cut:]
        self.events = {
            name: [int(np.count_nonzero(getattr(came, name)[span])) for span in self.spans] for name in OUTCOMES
        }

    @property
    def voting(self) -> list[str]:
        return [name for name, count in self.events.items() if min(count) >= LEAST_EVENTS]

    @property
    def lacks(self) -> str:
        """In words, why nothing can be judged; nothing where it can be."""
        rows = sum(map(len, self.spans))
        if rows >= LEAST_ROWS and self.voting:
            return ""
        counts = ", ".join(f"{sum(count)} {OUTCOMES[name]}" for name, count in self.events.items())
        return (
            f"too little to judge by: {rows} rows with a known outcome after {LEAST_ROWS} others ({counts}); "
            f"{LEAST_ROWS} rows are needed, and {LEAST_EVENTS} of an outcome in the earlier and in the later part"
        )

    def trial(self, changes: dict[str, Any], played: Played, draws: int = DRAWS) -> Trial:
        """ValueError where there is too little to judge by."""
        if self.lacks:
            raise ValueError(self.lacks)
        columns = {name: self._losses(name, played) for name in self.voting}
        earlier, later = (self._score(span, columns, played, draws) for span in self.spans)
        return Trial(changes, played.segments, played.versions, played.churn_day, earlier, later)

    def _losses(self, name: str, played: Played) -> tuple[Floats, Floats, Floats]:
        """Of the shop's rate, of the parameters in force, of the candidate: (rows,) each, nan where not ripe."""
        one = np.zeros(len(self._now), np.int64)
        return self._loss(name, one), self._loss(name, self._base.segment), self._loss(name, played.segment)

    def _loss(self, name: str, segment: Ints) -> Floats:
        outcome = getattr(self._came, name)[self._ripe]
        rate = rates(self._now[self._ripe], segment[self._ripe], outcome, self._horizon)
        out = np.full(len(self._now), np.nan)
        out[self._ripe] = log_loss(rate, outcome)
        return out

    def _score(
        self, span: Ints, columns: dict[str, tuple[Floats, Floats, Floats]], played: Played, draws: int
    ) -> Score:
        gains, saved = [], []
        for shop, base, ours in columns.values():
            unit = mean(shop[span])
            gains.append((base[span] - ours[span]) / unit)
            saved.append(1.0 - mean(ours[span]) / unit)
        total = gains[0]
        for column in gains[1:]:
            total = total + column
        users = np.unique(self._user[span], return_inverse=True)[1].reshape(-1)
        (gain,) = mean_by_user(users, (total / len(gains))[:, None], draws, self._seed)
        by_outcome = {name: mean(column) for name, column in zip(columns, gains, strict=True)}
        return Score(by_outcome, gain, sum(saved) / len(saved), mean(played.apart[span]))


def best(trials: Sequence[Trial]) -> Trial:
    """Of the trials, the first of which is of the parameters in force: the one that saves most on the earlier rows, of
    those whose segments move no more people than is allowed or is usual, and lie hardly less apart."""
    base = trials[0]
    allowed = max(CHURN, base.churn_day)
    steady = [
        one for one in trials
        if one is base or (one.churn_day <= allowed and one.earlier.separation >= base.earlier.separation - SLACK)
    ]  # fmt: skip
    return max(steady, key=lambda one: one.earlier.gain.value)
