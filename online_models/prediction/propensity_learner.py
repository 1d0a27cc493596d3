"""Propensities, learned on line from rows of the log as their outcomes ripen.

What came of a row is what online_models/outcomes.py says, found while the log goes by. Only ROW and DAY records are as
of a time that the shopper did not choose: a ROW is of a shopper in a visit, a DAY of one who is away, unless another
record of the same visit says otherwise. Each head is River's own StandardScaler and LogisticRegression.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort

import msgspec
import numpy as np
from river.linear_model import LogisticRegression
from river.optim import SGD
from river.preprocessing import StandardScaler
from river.utils import VectorDict

from online_models.distances import Floats
from online_models.outcomes import HORIZON
from online_models.prediction.propensity import (
    CLIP,
    HEADS,
    OUTCOME_OF,
    OUTCOMES,
    VISIT,
    Head,
    Propensity,
    features,
    propensity,
)
from online_models.prediction.row_codec import pack, unpack
from online_models.prediction.score_bins import Tally
from online_models.prediction.user_pool import Sample
from online_models.training_rows import DAY, ROW, USER, Rows

RATE = 0.001  # of learning; larger ones swing with each of the few buyers
START = (-4.0, -1.5)  # intercepts: rates to begin with
FIRST = 256  # rows after which, and after each doubling, what scores were worth before says half as much
LOW, HIGH, BINS = -8.0, 16.0, 96  # of the score, by the length of the weights


class Params(msgspec.Struct, frozen=True):
    ratios: int  # R: the first 2R columns of a raw line are counts, the others logarithms
    waiting: int = 8_192  # rows whose outcome is not known, at most
    least: int = 200  # rows learned from before anything is foretold
    horizon: int = HORIZON  # ms


class _Waiting(msgspec.Struct, array_like=True):
    """A row, and what has come of it so far."""

    now: int
    number: int  # in the log, of those that came to wait
    sessions: int
    orders: int
    away: bool
    line: bytes
    told: list[float | None]  # by outcome, as foretold when it came
    last: tuple[int, int, int, int]  # time, sessions, carts, orders of the user's newest record
    same: int  # carts up to the end of the row's session
    following: int  # and of the next one
    bought: bool = False
    returned: bool = False
    closed: bool = False  # another history of the user has begun


class _Fit(msgspec.Struct, array_like=True):
    """A regression as it stands."""

    rows: int
    mean: list[float]
    variance: list[float]
    weight: list[float]
    intercept: float
    scores: Tally
    told: Tally


class _State(msgspec.Struct, array_like=True):
    waiting: list[tuple[bytes, list[_Waiting]]]
    number: int
    time: int
    fits: list[_Fit]


class _Regression:
    """River's, for one head."""

    def __init__(self, outcome: int) -> None:
        self.scaler = StandardScaler()
        self.river = LogisticRegression(SGD(RATE), intercept_init=START[outcome])
        self.rows = 0
        self.scores = Tally.of(LOW, HIGH, BINS)  # by its score just before it learns a row: what a score is worth
        self.told = Tally.of(-10.0, 4.0, BINS)  # by the logit of what was told when the row came: how good that was

    def learn(self, line: list[float], y: bool, told: float | None) -> None:
        """A row's features, what came of it, and what was told of that."""
        x = dict(enumerate(line))
        self.scaler.learn_one(x)
        x = {i: min(CLIP, max(-CLIP, value)) for i, value in self.scaler.transform_one(x).items()}
        along = (self.river._raw_dot_one(x) - self.river.intercept) / self.length
        self.scores.add(along, 0.0, y)
        if told is not None:
            self.told.add(_logit(told), told, y)
        self.river.learn_one(x, y)
        self.rows += 1
        if self.rows >= FIRST and self.rows & (self.rows - 1) == 0:  # what scores were worth while weights were new
            self.scores.fade()

    @property
    def weights(self) -> list[float]:
        return [self.river.weights.get(i, 0.0) for i in range(len(self.scaler.means))]

    @property
    def length(self) -> float:
        """Of the weights; 1.0 while there are none."""
        return math.sqrt(sum(weight * weight for weight in self.river.weights.values())) or 1.0

    def head(self) -> Head:
        calibration = self.scores.calibration(np.full(BINS, self.scores.rate))
        mean, deviation = list(self.scaler.means.values()), [math.sqrt(one) for one in self.scaler.vars.values()]
        return Head(mean, deviation, self.weights, self.river.intercept, self.length, calibration)

    def fit(self) -> _Fit:
        mean, variance = (list(one.values()) for one in (self.scaler.means, self.scaler.vars))
        return _Fit(self.rows, mean, variance, self.weights, self.river.intercept, self.scores, self.told)

    @classmethod
    def of(cls, fit: _Fit, outcome: int) -> _Regression:
        one, columns = cls(outcome), range(len(fit.mean))
        one.scaler = StandardScaler._from_state(
            dict.fromkeys(columns, fit.rows), dict(enumerate(fit.mean)), dict(enumerate(fit.variance))
        )
        if fit.rows:
            one.river._weights = VectorDict(dict(enumerate(fit.weight)))
        one.river.intercept, one.rows, one.scores, one.told = fit.intercept, fit.rows, fit.scores, fit.told
        one.river.optimizer.n_iterations = fit.rows
        return one


class PropensityLearner:
    """A fold over rows in log order, however they are cut into calls: `learn` all rows between two versions, then
    `publish` what the next one says."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.model: Propensity | None = None
        self._waiting: Sample[_Waiting] = Sample(params.waiting)
        self._due: list[tuple[int, int, bytes]] = []  # time, number and user of what waits, ascending
        self._number = 0
        self._time = 0
        self._fits = [_Regression(outcome) for outcome in OUTCOME_OF]

    @classmethod
    def resume(cls, state: bytes, params: Params, model: Propensity | None) -> PropensityLearner:
        """Go on from the state and model of a version: as if it had never stopped."""
        one, kept = cls(params), msgspec.msgpack.decode(state, type=_State)
        for user, entries in kept.waiting:
            one._waiting.keep(user, entries)
            one._due += [(entry.now, entry.number, user) for entry in entries]
        one._due.sort()
        one._number, one._time, one.model = kept.number, kept.time, model
        one._fits = [_Regression.of(fit, outcome) for fit, outcome in zip(kept.fits, OUTCOME_OF, strict=True)]
        return one

    def state(self) -> bytes:
        """What `resume` goes on from, together with the model published last."""
        fits = [fit.fit() for fit in self._fits]
        return msgspec.msgpack.encode(_State(list(self._waiting.items()), self._number, self._time, fits))

    def learn(self, rows: Rows) -> None:
        """All rows of the log, in its order."""
        if not len(rows):
            return
        told = np.full((len(rows), len(OUTCOMES)), np.nan)
        if self.model is not None:
            told = propensity(self.model, rows.raw, rows.kind == DAY)
        users, size = rows.user.tobytes(), USER.itemsize
        totals = zip(*(c.tolist() for c in (rows.now, rows.sessions, rows.carts, rows.orders)), strict=True)
        for i, (kind, record) in enumerate(zip(rows.kind.tolist(), totals, strict=True)):
            user, now = users[i * size : (i + 1) * size], record[0]
            if now > self._time:
                self._time = now
                self._ripen()
            here = False  # a record of the visit that the user is in
            for one in self._waiting.of(user):
                here |= one.last[0] + VISIT >= now
                _hear(one, record, self.params.horizon)
            if kind == ROW or (kind == DAY and not here):
                entry = _Waiting(
                    now, self._number, record[1], record[3], kind == DAY, pack(rows.raw[i]), _known(told[i]), record,
                    record[2], record[2],
                )  # fmt: skip
                self._number += 1
                insort(self._due, (now, entry.number, user))
                for gone in self._waiting.add(user, entry):
                    del self._due[bisect_left(self._due, (gone.now, gone.number, b""))]

    def publish(self) -> Propensity | None:
        """What the next version says; None from too few rows."""
        heads = [fit.head() if fit.rows >= self.params.least else None for fit in self._fits]
        self.model = Propensity(self.params.ratios, heads) if any(heads) else None
        return self.model

    def figures(self) -> dict[str, float]:
        """Of predictions made when a row came, by the version of then, and judged when its outcome was known: by head
        the area under the ROC curve, how far probabilities were off on average, and the number of them. Older ones
        fade."""
        found: dict[str, float] = {}
        for name, fit in zip(HEADS, self._fits, strict=True):
            found[f"{name}_auc"] = fit.told.auc()
            found[f"{name}_calibration_error"] = fit.told.error()
            found[f"{name}_predictions"] = fit.told.seen
        return found

    def _ripen(self) -> None:
        """Learn from what has waited out the horizon."""
        while self._due and self._due[0][0] + self.params.horizon < self._time:
            _, number, user = self._due.pop(0)
            mine = self._waiting.of(user)
            self._waiting.keep(user, [one for one in mine if one.number != number])
            self._see(next(one for one in mine if one.number == number))

    def _see(self, one: _Waiting) -> None:
        line = features(unpack([one.line]), self.params.ratios)[0].tolist()
        self._fits[int(one.away)].learn(line, one.bought, one.told[0])
        if one.returned:  # else there was no next session
            self._fits[2].learn(line, one.following > one.same, one.told[1])


def _hear(one: _Waiting, record: tuple[int, int, int, int], horizon: int) -> None:
    """A later record of the user: its time and totals."""
    if one.closed or any(new < old for new, old in zip(record, one.last, strict=True)):
        one.closed = True
        return
    now, sessions, carts, orders = one.last = record
    if now > one.now + horizon:
        return
    one.bought = orders > one.orders
    one.returned = sessions > one.sessions
    if sessions <= one.sessions:
        one.same = one.following = carts
    elif sessions == one.sessions + 1:
        one.following = carts


def _known(values: Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _logit(chance: float) -> float:
    chance = min(1 - 1e-9, max(1e-9, chance))
    return math.log(chance / (1 - chance))
