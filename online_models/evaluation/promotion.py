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

from online_models.clustering.alignment import Alignment, align
from online_models.distances import Floats
from online_models.evaluation.bootstrap import DRAWS, Interval, mean_by_user
from online_models.evaluation.scoring import known, log_loss, mean, rates, silhouette
from online_models.outcomes import HORIZON, Outcomes
from online_models.training_rows import Ints, Rows

LEAST_ROWS = 500  # scored rows, and rows known before the first of them, below which nothing is said
LEAST_EVENTS = 20  # of an outcome among the scored rows, below which it has no say
BUDGET = 0.05  # share of the panel that may change segment
SLACK = 0.02  # of the simplified silhouette: by so much less is no worse
OUTCOMES = {"bought": "purchases within seven days", "carted": "carts in the next session"}
WINDOWS = "windows"


@dataclass(frozen=True, slots=True)
class Contender:
    """What a model makes of the same n records of kind ROW (those of Outcomes.at); k segments, D dimensions."""

    name: str  # in words
    space: str  # in which the centres lie: "windows" or another
    ids: list[int]  # (k,)
    centres: Floats  # (k, D)
    lines: Floats  # (n, D)
    segment: Ints  # (n,) index of the centre


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
    champion: Contender, candidate: Contender, rows: Rows, came: Outcomes, *, baseline: Contender | None = None,
    budget: float = BUDGET, accept_churn: bool = False, horizon: int = HORIZON, draws: int = DRAWS, seed: int = 0,
) -> Verdict:  # fmt: skip
    """The verdict on a candidate.

    rows: records of followed users whose ROWs neither contender learned from, came: what came of them. baseline: the
    segments on the windows, which an embedding has to beat where the champion is no such either. The panel is each
    user at the last row. ValueError where a contender is not about these rows.
    """
    for one in (champion, candidate, *([baseline] if baseline else [])):
        if not len(one.segment) == len(one.lines) == len(came.at):
            raise ValueError(f"{one.name} is about {len(one.segment)} rows, there are {len(came.at)}")
    user = np.unique(rows.user[came.at], return_inverse=True)[1].reshape(-1)
    field = _Field.of(rows.now[came.at], user, came, horizon)
    prediction = field.against(champion, candidate, draws, seed)
    beaten = None if baseline is None else field.against(baseline, candidate, draws, seed)
    last = _newest(user)
    aligned = align(champion.segment[last], candidate.segment[last], len(champion.ids), len(candidate.ids))
    promoted, why = _answer(champion, candidate, prediction, baseline, beaten, field)
    if promoted and aligned.churn > budget:
        promoted = accept_churn
        why += f"; {aligned.churn:.1%} of the panel would change segment, the budget is {budget:.1%}"
        why += ": accepted" if accept_churn else ": refused"
    return Verdict(
        champion=champion.name, candidate=candidate.name, promoted=promoted, why=why, prediction=prediction,
        baseline=beaten, churn=aligned.churn, old=list(champion.ids), new=list(candidate.ids),
        continues=_named(aligned, champion.ids), matrix=aligned.matrix.tolist(), rows=len(field.scored),
        users=len(np.unique(field.user[field.scored])), events=field.events,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Field:
    """What contenders are judged by."""

    now: Ints
    user: Ints
    came: Outcomes
    horizon: int
    ripe: Ints
    scored: Ints  # the ripe rows at whose time enough was known to learn rates from
    events: dict[str, int]

    @classmethod
    def of(cls, now: Ints, user: Ints, came: Outcomes, horizon: int) -> _Field:
        ripe = np.flatnonzero(came.ripe)
        scored = ripe[known(now[ripe], horizon) >= LEAST_ROWS]
        events = {name: int(np.count_nonzero(getattr(came, name)[scored])) for name in OUTCOMES}
        return cls(now, user, came, horizon, ripe, scored, events)

    @property
    def voting(self) -> list[str]:
        return [name for name, count in self.events.items() if count >= LEAST_EVENTS]

    def against(self, other: Contender, candidate: Contender, draws: int, seed: int) -> Prediction | None:
        """None where there is too little to judge by."""
        if len(self.scored) < LEAST_ROWS or not self.voting:
            return None
        losses, columns = {}, []
        for name in self.voting:
            shop, theirs, ours = (self._loss(one, name) for one in (None, other, candidate))
            losses[name] = [mean(shop), mean(theirs), mean(ours)]
            columns.append((theirs - ours) / mean(shop))
        total = columns[0]
        for column in columns[1:]:
            total = total + column
        apart = [silhouette(one.lines, one.centres, one.segment)[self.scored] for one in (other, candidate)]
        users = np.unique(self.user[self.scored], return_inverse=True)[1]
        both = np.stack([*columns, total / len(columns), apart[1] - apart[0]], 1)
        *gains, gain, separation = mean_by_user(users, both, draws, seed)
        return Prediction(
            losses, dict(zip(self.voting, gains, strict=True)), gain, [mean(one) for one in apart], separation
        )

    def _loss(self, one: Contender | None, name: str) -> Floats:
        """Of each scored row; None: the shop as one segment."""
        segment = np.zeros(len(self.ripe), np.int64) if one is None else one.segment[self.ripe]
        outcome = getattr(self.came, name)[self.ripe]
        loss = log_loss(rates(self.now[self.ripe], segment, outcome, self.horizon), outcome)
        return loss[np.searchsorted(self.ripe, self.scored)]


def _newest(user: Ints) -> Ints:
    """Index of each user's last row."""
    return len(user) - 1 - np.unique(user[::-1], return_index=True)[1]


def _named(aligned: Alignment, ids: list[int]) -> list[int]:
    return [ids[i] if i >= 0 else -1 for i in aligned.old_of.tolist()]


def _answer(
    champion: Contender, candidate: Contender, prediction: Prediction | None, baseline: Contender | None,
    beaten: Prediction | None, field: _Field,
) -> tuple[bool, str]:  # fmt: skip
    """Whether the candidate is better, before its churn is looked at, and why."""
    if prediction is None:
        found = ", ".join(f"{count} {OUTCOMES[name]}" for name, count in field.events.items())
        return False, (
            f"too little to judge by: {len(field.scored)} rows with a known outcome and as many known before them "
            f"({found}); {LEAST_ROWS} rows and {LEAST_EVENTS} of an outcome are needed"
        )
    gain = prediction.gain
    said = f"{candidate.name} against {champion.name}, share of the log-loss saved: {gain}"
    if candidate.space == WINDOWS and champion.space != WINDOWS:
        if gain.high < 0:
            return False, f"{said}: the embedding is better than the windows"
        return True, f"{said}: the embedding does not beat the windows, and a tie goes to the windows"
    if gain.low <= 0:
        if champion.space == WINDOWS and candidate.space != WINDOWS:
            return False, f"{said}: the embedding does not beat the hand-made windows"
        return False, f"{said}: not better"
    if candidate.space != WINDOWS and champion.space != WINDOWS:
        if baseline is None or beaten is None:
            return False, f"{said}; there are no segments on the windows to compare the embedding with"
        if beaten.gain.low <= 0:
            return False, f"{said}; against {baseline.name}: {beaten.gain}: it does not beat the hand-made windows"
    apart = prediction.separation_gain
    if apart.high < -SLACK:
        return False, f"{said}: better, but its segments lie less apart (silhouette {apart})"
    return True, f"{said}: better"
