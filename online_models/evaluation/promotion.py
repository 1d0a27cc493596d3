"""Whether a candidate model takes the champion's place.

A candidate has to be better at what segments are for: telling who will buy within seven days and who will put something
into the cart in the next session, by the rate of each segment, learned from what was known before and scored on what
came after. Its segments must lie no less apart, and few people may change segment. The segments on the hand-made
windows are the standing baseline: an embedding that does not beat them is not promoted, and a tie goes to the windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from online_models.assignment import assign
from online_models.clustering.alignment import Alignment, align
from online_models.distances import Floats, mean
from online_models.evaluation.bootstrap import DRAWS, Interval, mean_by_user
from online_models.evaluation.scoring import known_before, log_loss, rates, silhouette
from online_models.outcomes import HORIZON, Outcomes
from online_models.segment_ids import centre_index
from online_models.training_rows import Ints, TrainingRows
from online_models.version import WINDOWS, Version

LEAST_ROWS = 500  # scored rows, and rows known before the first of them, below which nothing is said
LEAST_EVENTS = 20  # of an outcome among the scored rows, below which it has no say
BUDGET = 0.05  # share of the panel that may change segment
SEPARATION_SLACK = 0.02  # of the simplified silhouette: by so much less is no worse
OUTCOMES = {"bought": "purchases within seven days", "carted": "carts in the next session"}


@dataclass(frozen=True, slots=True)
class Contender:
    """What a model makes of the same n records of kind SAMPLE_ROW (those of Outcomes.at); k segments, D dimensions."""

    name: str  # in words
    space: str  # in which the centres lie: "windows" or another
    ids: list[int]  # (k,)
    centres: Floats  # (k, D)
    points: Floats  # (n, D)
    segment: Ints  # (n,) index of the centre


def contender(name: str, version: Version, rows: TrainingRows, came: Outcomes) -> Contender:
    """What a version makes of the records of kind SAMPLE_ROW among some rows: each user's in their order, held in a
    segment as its hysteresis says."""
    sampled = rows.take(came.at)
    user = np.unique(sampled.user, return_inverse=True)[1].reshape(-1)
    order = np.argsort(user, kind="stable")
    from_nowhere = np.full(int(user.max(initial=-1)) + 1, -1)
    assigned = assign(version, sampled.raw[order], user[order], from_nowhere)
    segment = np.empty(len(order), np.int64)
    segment[order] = centre_index(version.ids, assigned.segment.astype(np.int64))
    points = np.empty((len(order), version.centres.shape[1]))
    points[order] = version.coordinates(sampled.raw[order], assigned.features)
    return Contender(name, version.space, list(version.ids), version.centres, points, segment)


class Prediction(msgspec.Struct, frozen=True):
    """The candidate against another contender, on m rows; a gain is a share of the log-loss of the shop's rate."""

    losses: dict[str, list[float]]  # by outcome, nats a row: of the shop's rate, the other, the candidate
    gains: dict[str, Interval]  # by outcome, positive where the candidate is better
    gain: Interval  # mean over the outcomes
    separation: list[float]  # mean simplified silhouette: of the other, the candidate
    separation_gain: Interval


class Verdict(msgspec.Struct, frozen=True):
    """What was found, as it is kept and shown."""

    champion: str
    candidate: str
    promoted: bool
    why: str  # in words
    prediction: Prediction | None  # against the champion; None where there is too little to judge by
    baseline: Prediction | None  # against the segments on the windows, where the champion is no such
    churn: float  # share of the panel that changes segment, after alignment
    old: list[int]  # ids of the champion's segments
    new: list[int]  # ids of the candidate's
    continues: list[int]  # for each of the candidate's the champion's id that it continues; -1: none
    matrix: list[list[int]]  # (old, new) people of the panel
    rows: int  # scored
    users: int
    events: dict[str, int]  # of each outcome among the scored rows


def judge(
    champion: Contender,
    candidate: Contender,
    rows: TrainingRows,
    came: Outcomes,
    *,
    baseline: Contender | None = None,
    budget: float = BUDGET,
    accept_churn: bool = False,
    horizon: int = HORIZON,
    draws: int = DRAWS,
    seed: int = 0,
) -> Verdict:
    """The verdict on a candidate.

    rows: records of followed users, from whose sampled ones neither contender was made; came: what came of them.
    baseline: the segments on the windows, which an embedding has to beat where the champion is no such either. budget:
    share of the panel, each user at the last row, that may change segment; horizon in ms. ValueError where a contender
    is not about these rows.
    """
    for each in (champion, candidate, *([baseline] if baseline else [])):
        if not len(each.segment) == len(each.points) == len(came.at):
            raise ValueError(f"{each.name} is about {len(each.segment)} rows, there are {len(came.at)}")
    user = np.unique(rows.user[came.at], return_inverse=True)[1].reshape(-1)
    comparison = _Comparison.over(rows.now[came.at], user, came, horizon)
    prediction = comparison.compare(champion, candidate, draws, seed)
    with_baseline = None if baseline is None else comparison.compare(baseline, candidate, draws, seed)
    last = _last_rows(user)
    aligned = align(champion.segment[last], candidate.segment[last], len(champion.ids), len(candidate.ids))
    promoted, why = _better(champion, candidate, prediction, baseline, with_baseline, comparison)
    if promoted and aligned.churn > budget:
        promoted = accept_churn
        why += f"; {aligned.churn:.1%} of the panel would change segment, the budget is {budget:.1%}"
        why += ": accepted" if accept_churn else ": refused"
    return Verdict(
        champion=champion.name,
        candidate=candidate.name,
        promoted=promoted,
        why=why,
        prediction=prediction,
        baseline=with_baseline,
        churn=aligned.churn,
        old=list(champion.ids),
        new=list(candidate.ids),
        continues=_continued_ids(aligned, champion.ids),
        matrix=aligned.matrix.tolist(),
        rows=len(comparison.scored),
        users=len(np.unique(comparison.user[comparison.scored])),
        events=comparison.events,
    )


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What contenders are compared on: m records of kind SAMPLE_ROW."""

    now: Ints  # (m,)
    user: Ints  # (m,)
    came: Outcomes
    horizon: int
    ripe: Ints  # indices of those whose outcome is known
    scored: Ints  # indices of the ripe ones at whose time enough was known to learn rates from
    events: dict[str, int]  # of each outcome among the scored

    @classmethod
    def over(cls, now: Ints, user: Ints, came: Outcomes, horizon: int) -> _Comparison:
        ripe = np.flatnonzero(came.ripe)
        scored = ripe[known_before(now[ripe], horizon) >= LEAST_ROWS]
        events = {name: int(np.count_nonzero(getattr(came, name)[scored])) for name in OUTCOMES}
        return cls(now, user, came, horizon, ripe, scored, events)

    @property
    def voting(self) -> list[str]:
        """The outcomes that have a say."""
        return [name for name, count in self.events.items() if count >= LEAST_EVENTS]

    def compare(self, other: Contender, candidate: Contender, draws: int, seed: int) -> Prediction | None:
        """The candidate against another one; None where there is too little to judge by."""
        if len(self.scored) < LEAST_ROWS or not self.voting:
            return None
        losses, gains_by_row = {}, []
        for name in self.voting:
            of_shop, of_other, of_candidate = (self._loss(each, name) for each in (None, other, candidate))
            losses[name] = [mean(of_shop), mean(of_other), mean(of_candidate)]
            gains_by_row.append((of_other - of_candidate) / mean(of_shop))
        total = gains_by_row[0]
        for column in gains_by_row[1:]:
            total = total + column
        apart = [silhouette(each.points, each.centres, each.segment)[self.scored] for each in (other, candidate)]
        users = np.unique(self.user[self.scored], return_inverse=True)[1]
        columns = np.stack([*gains_by_row, total / len(gains_by_row), apart[1] - apart[0]], 1)
        *gains, gain, separation_gain = mean_by_user(users, columns, draws, seed)
        return Prediction(
            losses=losses,
            gains=dict(zip(self.voting, gains, strict=True)),
            gain=gain,
            separation=[mean(column) for column in apart],
            separation_gain=separation_gain,
        )

    def _loss(self, contender: Contender | None, name: str) -> Floats:
        """The log-loss of each scored row; None: of the shop as one segment."""
        segment = np.zeros(len(self.ripe), np.int64) if contender is None else contender.segment[self.ripe]
        outcome = getattr(self.came, name)[self.ripe]
        loss = log_loss(rates(self.now[self.ripe], segment, outcome, self.horizon), outcome)
        return loss[np.searchsorted(self.ripe, self.scored)]


def _last_rows(user: Ints) -> Ints:
    """Index of each user's last row."""
    return len(user) - 1 - np.unique(user[::-1], return_index=True)[1]


def _continued_ids(aligned: Alignment, ids: list[int]) -> list[int]:
    """For each new segment the id of the old one that it continues, -1 for none."""
    return [ids[old] if old >= 0 else -1 for old in aligned.old_of.tolist()]


def _better(
    champion: Contender,
    candidate: Contender,
    prediction: Prediction | None,
    baseline: Contender | None,
    with_baseline: Prediction | None,
    comparison: _Comparison,
) -> tuple[bool, str]:
    """Whether the candidate is better, before its churn is looked at, and why."""
    if prediction is None:
        events = ", ".join(f"{count} {OUTCOMES[name]}" for name, count in comparison.events.items())
        return False, (
            f"too little to judge by: {len(comparison.scored)} rows with a known outcome and as many known before them "
            f"({events}); {LEAST_ROWS} rows and {LEAST_EVENTS} of an outcome are needed"
        )
    gain = prediction.gain
    result = f"{candidate.name} against {champion.name}, share of the log-loss saved: {gain}"
    if candidate.space == WINDOWS and champion.space != WINDOWS:
        if gain.high < 0:
            return False, f"{result}: the embedding is better than the windows"
        return True, f"{result}: the embedding does not beat the windows, and a tie goes to the windows"
    if gain.low <= 0:
        if champion.space == WINDOWS and candidate.space != WINDOWS:
            return False, f"{result}: the embedding does not beat the hand-made windows"
        return False, f"{result}: not better"
    if candidate.space != WINDOWS and champion.space != WINDOWS:
        if baseline is None or with_baseline is None:
            return False, f"{result}; there are no segments on the windows to compare the embedding with"
        if with_baseline.gain.low <= 0:
            against = f"{result}; against {baseline.name}: {with_baseline.gain}"
            return False, f"{against}: it does not beat the hand-made windows"
    apart = prediction.separation_gain
    if apart.high < -SEPARATION_SLACK:
        return False, f"{result}: better, but its segments lie less apart (silhouette {apart})"
    return True, f"{result}: better"
