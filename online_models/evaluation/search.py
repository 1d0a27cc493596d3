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

from online_models.assignment import assign
from online_models.distances import Floats, mean
from online_models.evaluation.bootstrap import DRAWS, Interval, mean_by_user
from online_models.evaluation.promotion import LEAST_EVENTS, LEAST_ROWS, OUTCOMES, SEPARATION_SLACK
from online_models.evaluation.scoring import known_before, log_loss, rates, silhouette
from online_models.learner.learner import Learner, LearnerParams
from online_models.learner.panel import ACTIVE
from online_models.outcomes import HORIZON, Outcomes
from online_models.segment_ids import NO_SEGMENT, centre_index
from online_models.training_rows import DAY_MS, SAMPLE_ROW, Ints, TrainingRows
from online_models.version import Version

CHURN_A_DAY = 0.01  # up to it churn is no objection
CHUNK = 2_000  # rows between two looks at the clock
EARLIER = 0.6  # of the scored rows, in time order, candidates are ranked by

# what is tried: names of LearnerParams that are settings of [learner] too
SPACE: Mapping[str, Sequence[Any]] = {
    "k_least": (2, 4, 6, 8, 10, 12, 16, 20),
    "k_most": (4, 8, 12, 16, 20, 24),
    "window": (2_000, 4_000, 6_000, 10_000, 15_000),
    "hysteresis": (0.0, 0.1, 0.15, 0.2, 0.3),
    "half_life": (43_200.0, 86_400.0, 129_600.0, 259_200.0, 604_800.0),
    "clip": (1.5, 2.0, 3.0, 4.0),
    "floor": (0.0005, 0.002, 0.005, 0.02),
}


def candidates(base: LearnerParams, trials: int, seed: int) -> Iterator[LearnerParams]:
    """The parameters in force, then others, each once, at most `trials` in all: every second one differs in a single
    parameter, so that what a parameter does can be seen; the rest are drawn from the whole space."""
    rng = np.random.Generator(np.random.PCG64(seed))
    names = list(SPACE)
    seen = [base]
    yield base
    for attempt in range(100 * trials):
        if len(seen) >= trials:
            return
        changed = [names[int(rng.integers(len(names)))]] if attempt % 2 == 0 else names
        drawn = {name: SPACE[name][int(rng.integers(len(SPACE[name])))] for name in changed}
        candidate = msgspec.structs.replace(base, **drawn)
        most = min(candidate.first_rows, candidate.window, candidate.k_most)
        if candidate not in seen and candidate.k_least <= most:
            seen.append(candidate)
            yield candidate


def changes(base: LearnerParams, candidate: LearnerParams) -> dict[str, Any]:
    """In what a candidate differs from the parameters in force."""
    return {name: getattr(candidate, name) for name in SPACE if getattr(candidate, name) != getattr(base, name)}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a learner made of the n records of kind SAMPLE_ROW."""

    segment: Ints  # (n,) id, NO_SEGMENT before the first version
    silhouette: Floats  # (n,) simplified, nan before the first version
    churn_day: float  # share of active people whom new versions moved, a day
    versions: int
    segments: int  # of the last version


def replay(
    params: LearnerParams, rows: TrainingRows, step: Callable[[int, int], bool] = lambda done, total: True
) -> Replayed | None:
    """Run a learner over the log. step: how many rows of how many are done; where it returns False the replay gives up
    and returns None."""
    sampled = rows.take(rows.kind == SAMPLE_ROW)
    population, learner = _Population(sampled), Learner.start(params)
    for start in range(0, len(sampled), CHUNK):
        part = sampled.take(slice(start, start + CHUNK))
        versions = [msgspec.structs.replace(version, state=b"") for version in learner.learn(part)]
        swaps = [int(np.searchsorted(sampled.offset, version.learned_to)) for version in versions]
        cuts = pairwise([start, *swaps, start + len(part)])
        for i, (begin, end) in enumerate(cuts):
            if i:
                population.swap(versions[i - 1])
            population.assign(begin, end)
        if not step(start + len(part), len(sampled)):
            return None
    return population.result()


class _Population:
    """Users as a worker would have them, from row to row and from version to version."""

    def __init__(self, rows: TrainingRows) -> None:
        self._rows = rows
        self._user = np.unique(rows.user, return_inverse=True)[1].reshape(-1)
        users = int(self._user.max(initial=-1)) + 1
        self._held = np.full(users, NO_SEGMENT)
        self._newest = np.full(users, -1)  # row
        self._segment = np.full(len(rows), NO_SEGMENT)
        self._silhouette = np.full(len(rows), np.nan)
        self._version: Version | None = None
        self._moved = 0.0
        self._first = self._last = 0
        self._count = 0

    def assign(self, begin: int, end: int) -> None:
        """Rows begin to end, by the version in force."""
        if begin == end:
            return
        rows = begin + np.argsort(self._user[begin:end], kind="stable")
        user = self._user[rows]
        is_last = np.r_[user[1:] != user[:-1], True]
        if self._version is not None:
            self._segment[rows], self._silhouette[rows] = self._assigned(self._version, rows)
            self._held[user[is_last]] = self._segment[rows[is_last]]
        self._newest[user[is_last]] = rows[is_last]

    def swap(self, version: Version) -> None:
        """A new version: all who were there in the last days are assigned anew."""
        now = version.event_time
        known = np.flatnonzero(self._newest >= 0)
        active = known[self._rows.now[self._newest[known]] >= now - ACTIVE]
        before = self._held[active]
        after = self._assigned(version, self._newest[active])[0] if len(active) else before
        if self._version is None:
            self._first = now
        elif len(active):
            self._moved += float(np.count_nonzero(after != before)) / len(active)
        self._held[active] = after
        self._version, self._last = version, now
        self._count += 1

    def _assigned(self, version: Version, rows: Ints) -> tuple[Ints, Floats]:
        """Segments and silhouettes of rows (indices), each user's together and in order."""
        users, user = np.unique(self._user[rows], return_inverse=True)
        raw = self._rows.raw[rows]
        assigned = assign(version, raw, user.reshape(-1), self._held[users])
        segment = assigned.segment.astype(np.int64)
        points = version.coordinates(raw, assigned.features)
        return segment, silhouette(points, version.centres, centre_index(version.ids, segment))

    def result(self) -> Replayed:
        days = max(1.0, (self._last - self._first) / DAY_MS)
        segments = len(self._version.ids) if self._version else 0
        return Replayed(self._segment, self._silhouette, self._moved / days, self._count, segments)


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

    def __init__(
        self, rows: TrainingRows, came: Outcomes, base: Replayed, horizon: int = HORIZON, seed: int = 0
    ) -> None:
        """base: what the parameters in force made of the same rows; horizon in ms."""
        self._now = rows.now[came.at]
        self._user = np.unique(rows.user[came.at], return_inverse=True)[1].reshape(-1)
        self._came, self._horizon, self._seed, self._base = came, horizon, seed, base
        self._ripe = np.flatnonzero(came.ripe)
        enough = known_before(self._now[self._ripe], horizon) >= LEAST_ROWS
        scored = self._ripe[enough & (base.segment[self._ripe] >= 0)]
        scored = scored[np.argsort(self._now[scored], kind="stable")]
        cut = int(EARLIER * len(scored))
        self.spans = scored[:cut], scored[cut:]
        self.events = {
            name: [int(np.count_nonzero(getattr(came, name)[span])) for span in self.spans] for name in OUTCOMES
        }

    @property
    def voting(self) -> list[str]:
        """The outcomes that have a say."""
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

    def trial(self, changes: dict[str, Any], replayed: Replayed, draws: int = DRAWS) -> Trial:
        """A candidate's trial; changes: in what it differs. ValueError where there is too little to judge by."""
        if self.lacks:
            raise ValueError(self.lacks)
        losses = {name: self._losses(name, replayed) for name in self.voting}
        earlier, later = (self._score(span, losses, replayed, draws) for span in self.spans)
        return Trial(changes, replayed.segments, replayed.versions, replayed.churn_day, earlier, later)

    def _losses(self, name: str, replayed: Replayed) -> tuple[Floats, Floats, Floats]:
        """Of the shop's rate, of the parameters in force, of the candidate: (rows,) each, nan where not ripe."""
        shop = np.zeros(len(self._now), np.int64)  # one segment
        return self._loss(name, shop), self._loss(name, self._base.segment), self._loss(name, replayed.segment)

    def _loss(self, name: str, segment: Ints) -> Floats:
        outcome = getattr(self._came, name)[self._ripe]
        rate = rates(self._now[self._ripe], segment[self._ripe], outcome, self._horizon)
        loss = np.full(len(self._now), np.nan)
        loss[self._ripe] = log_loss(rate, outcome)
        return loss

    def _score(
        self, span: Ints, losses: dict[str, tuple[Floats, Floats, Floats]], replayed: Replayed, draws: int
    ) -> Score:
        gains, saved = [], []
        for of_shop, of_base, of_candidate in losses.values():
            unit = mean(of_shop[span])
            gains.append((of_base[span] - of_candidate[span]) / unit)
            saved.append(1.0 - mean(of_candidate[span]) / unit)
        total = gains[0]
        for column in gains[1:]:
            total = total + column
        users = np.unique(self._user[span], return_inverse=True)[1].reshape(-1)
        (gain,) = mean_by_user(users, (total / len(gains))[:, None], draws, self._seed)
        by_outcome = {name: mean(column) for name, column in zip(losses, gains, strict=True)}
        return Score(by_outcome, gain, sum(saved) / len(saved), mean(replayed.silhouette[span]))


def best(trials: Sequence[Trial]) -> Trial:
    """Of the trials, the first of which is of the parameters in force: the one that saves most on the earlier rows, of
    those whose segments move no more people than is allowed or is usual, and lie hardly less apart."""
    base = trials[0]
    churn = max(CHURN_A_DAY, base.churn_day)
    separation = base.earlier.separation - SEPARATION_SLACK
    allowed = [
        trial
        for trial in trials
        if trial is base or (trial.churn_day <= churn and trial.earlier.separation >= separation)
    ]
    return max(allowed, key=lambda trial: trial.earlier.gain.value)
