"""Learns propensities on line, from rows of the log as their outcomes ripen.

What came of a row is what online_models/outcomes.py says, found while the log goes by. Only SAMPLE and FIRST_DAY rows
are as of a time that the shopper did not choose: a SAMPLE_ROW is of a shopper in a visit, a FIRST_DAY_ROW of one who is
away, unless another record of the same visit says otherwise. Each head is River's own StandardScaler and
LogisticRegression.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

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
    PropensityModel,
    inputs,
    predict,
)
from online_models.prediction.row_codec import decode_rows, encode_row
from online_models.prediction.score_bins import ScoreBins
from online_models.prediction.user_pool import UserPool
from online_models.training_rows import FIRST_DAY_ROW, SAMPLE_ROW, TrainingRows

if TYPE_CHECKING:
    from online_models.version import Version

RATE = 0.001  # of learning; larger ones swing with each of the few buyers
START = (-4.0, -1.5)  # intercepts by outcome: rates to begin with
FIRST_FADE = 256  # rows after which, and after each doubling, what scores were worth before says half as much
LOW, HIGH, BINS = -8.0, 16.0, 96  # of the score, by the length of the weights
LOGIT_LOW, LOGIT_HIGH = -10.0, 4.0  # of published probabilities
CART = HEADS.index("cart")

Totals = tuple[int, int, int, int]  # time (ms), sessions, carts, orders of a record


class PropensityParams(msgspec.Struct, frozen=True):
    ratios: int  # R: the first 2R columns of a raw row are counts, the others logarithms
    waiting: int = 8_192  # rows whose outcome is not known, at most
    least: int = 200  # rows learned from before anything is predicted
    horizon: int = HORIZON  # ms


class _Waiting(msgspec.Struct, array_like=True):
    """A row, and what has come of it so far."""

    now: int
    number: int  # in the log, of those that came to wait
    sessions: int
    orders: int
    away: bool
    row: bytes
    predicted: list[float | None]  # probabilities by outcome, when the row came
    last: Totals  # of the user's newest record
    carts_same: int  # carts up to the end of the row's session
    carts_next: int  # and of the next one
    bought: bool = False
    returned: bool = False
    closed: bool = False  # another history of the user has begun

    def update(self, record: Totals, horizon: int) -> None:
        """Take in a later record of the user."""
        if self.closed or any(new < old for new, old in zip(record, self.last, strict=True)):
            self.closed = True
            return
        self.last = record
        now, sessions, carts, orders = record
        if now > self.now + horizon:
            return
        self.bought = orders > self.orders
        self.returned = sessions > self.sessions
        if sessions <= self.sessions:
            self.carts_same = self.carts_next = carts
        elif sessions == self.sessions + 1:
            self.carts_next = carts


class _Fit(msgspec.Struct, array_like=True):
    """A regression as stored."""

    rows: int
    mean: list[float]
    variance: list[float]
    weight: list[float]
    intercept: float
    scores: ScoreBins
    predictions: ScoreBins


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
        # by a row's score just before it is learned: what a score is worth
        self.scores = ScoreBins.empty(LOW, HIGH, BINS)
        # by the logit of what was published when the row came: how good that was
        self.predictions = ScoreBins.empty(LOGIT_LOW, LOGIT_HIGH, BINS)

    def learn(self, row: list[float], outcome: bool, predicted: float | None) -> None:
        """Inputs (W,) of a row, what came of it, and the probability that was published of that."""
        x = dict(enumerate(row))
        self.scaler.learn_one(x)
        x = {i: min(CLIP, max(-CLIP, value)) for i, value in self.scaler.transform_one(x).items()}
        direction = (self.river._raw_dot_one(x) - self.river.intercept) / self.length
        self.scores.add(direction, 0.0, outcome)
        if predicted is not None:
            self.predictions.add(_logit(predicted), predicted, outcome)
        self.river.learn_one(x, outcome)
        self.rows += 1
        if self.rows >= FIRST_FADE and self.rows & (self.rows - 1) == 0:  # scores of new weights were worth less
            self.scores.fade()

    @property
    def weights(self) -> list[float]:
        return [self.river.weights.get(i, 0.0) for i in range(len(self.scaler.means))]

    @property
    def length(self) -> float:
        """Of the weights; 1.0 while there are none."""
        return math.sqrt(sum(weight * weight for weight in self.river.weights.values())) or 1.0

    def head(self) -> Head:
        """What a version carries."""
        calibration = self.scores.calibration(np.full(BINS, self.scores.rate))
        mean = list(self.scaler.means.values())
        deviation = [math.sqrt(variance) for variance in self.scaler.vars.values()]
        return Head(mean, deviation, self.weights, self.river.intercept, self.length, calibration)

    def fit(self) -> _Fit:
        """What from_fit() goes on from."""
        mean, variance = list(self.scaler.means.values()), list(self.scaler.vars.values())
        return _Fit(self.rows, mean, variance, self.weights, self.river.intercept, self.scores, self.predictions)

    @classmethod
    def from_fit(cls, fit: _Fit, outcome: int) -> _Regression:
        regression, columns = cls(outcome), range(len(fit.mean))
        regression.scaler = StandardScaler._from_state(
            dict.fromkeys(columns, fit.rows), dict(enumerate(fit.mean)), dict(enumerate(fit.variance))
        )
        if fit.rows:
            regression.river._weights = VectorDict(dict(enumerate(fit.weight)))
        regression.river.intercept = fit.intercept
        regression.river.optimizer.n_iterations = fit.rows
        regression.rows, regression.scores, regression.predictions = fit.rows, fit.scores, fit.predictions
        return regression


class PropensityLearner:
    """A SideLearner."""

    def __init__(self, params: PropensityParams) -> None:
        self.params = params
        self.model: PropensityModel | None = None
        self._waiting: UserPool[_Waiting] = UserPool(params.waiting)
        self._due: list[tuple[int, int, bytes]] = []  # time, number and user of what waits, ascending
        self._number = 0
        self._time = 0
        self._regressions = [_Regression(outcome) for outcome in OUTCOME_OF]

    @classmethod
    def resume(cls, state: bytes, params: PropensityParams, model: PropensityModel | None) -> PropensityLearner:
        learner, stored = cls(params), msgspec.msgpack.decode(state, type=_State)
        for user, entries in stored.waiting:
            learner._waiting.replace(user, entries)
            learner._due += [(entry.now, entry.number, user) for entry in entries]
        learner._due.sort()
        learner._number, learner._time, learner.model = stored.number, stored.time, model
        fits = zip(stored.fits, OUTCOME_OF, strict=True)
        learner._regressions = [_Regression.from_fit(fit, outcome) for fit, outcome in fits]
        return learner

    def state(self) -> bytes:
        fits = [regression.fit() for regression in self._regressions]
        return msgspec.msgpack.encode(_State(list(self._waiting.items()), self._number, self._time, fits))

    def learn(self, rows: TrainingRows, version: Version | None = None) -> None:
        """As the protocol says; the version plays no part, for the inputs are those of no version."""
        if not len(rows):
            return
        predicted = np.full((len(rows), len(OUTCOMES)), np.nan)
        if self.model is not None:
            predicted = predict(self.model, rows.raw, rows.kind == FIRST_DAY_ROW)
        columns = (column.tolist() for column in (rows.now, rows.sessions, rows.carts, rows.orders))
        records = zip(rows.kind.tolist(), rows.pseudonyms(), zip(*columns, strict=True), strict=True)
        for i, (kind, user, record) in enumerate(records):
            now, sessions, carts, orders = record
            if now > self._time:
                self._time = now
                self._learn_ripe()
            in_visit = False  # another record of the visit that the user is in
            for entry in self._waiting.entries(user):
                in_visit |= entry.last[0] + VISIT >= now
                entry.update(record, self.params.horizon)
            if kind == SAMPLE_ROW or (kind == FIRST_DAY_ROW and not in_visit):
                entry = _Waiting(
                    now=now,
                    number=self._number,
                    sessions=sessions,
                    orders=orders,
                    away=kind == FIRST_DAY_ROW,
                    row=encode_row(rows.raw[i]),
                    predicted=_or_none(predicted[i]),
                    last=record,
                    carts_same=carts,
                    carts_next=carts,
                )
                self._wait(user, entry)

    def _wait(self, user: bytes, entry: _Waiting) -> None:
        self._number += 1
        insort(self._due, (entry.now, entry.number, user))
        for evicted in self._waiting.add(user, entry):
            del self._due[bisect_left(self._due, (evicted.now, evicted.number, b""))]

    def publish(self, version: Version | None = None) -> PropensityModel | None:
        heads = [each.head() if each.rows >= self.params.least else None for each in self._regressions]
        self.model = PropensityModel(self.params.ratios, heads) if any(heads) else None
        return self.model

    def figures(self) -> dict[str, float]:
        """Of predictions made when a row came, by the version of then, and judged when its outcome was known: by head
        the area under the ROC curve, how far probabilities were off on average, and the number of them. Older ones
        fade."""
        figures: dict[str, float] = {}
        for name, regression in zip(HEADS, self._regressions, strict=True):
            figures[f"{name}_auc"] = regression.predictions.auc()
            figures[f"{name}_calibration_error"] = regression.predictions.calibration_error()
            figures[f"{name}_predictions"] = regression.predictions.seen
        return figures

    def _learn_ripe(self) -> None:
        """Learn from what has waited out the horizon."""
        while self._due and self._due[0][0] + self.params.horizon < self._time:
            _, number, user = self._due.pop(0)
            entries = self._waiting.entries(user)
            self._waiting.replace(user, [entry for entry in entries if entry.number != number])
            self._learn_entry(next(entry for entry in entries if entry.number == number))

    def _learn_entry(self, entry: _Waiting) -> None:
        row = inputs(decode_rows([entry.row]), self.params.ratios)[0].tolist()
        purchase = HEADS.index("purchase_away" if entry.away else "purchase_visit")
        self._regressions[purchase].learn(row, entry.bought, entry.predicted[0])
        if entry.returned:  # else there was no next session
            self._regressions[CART].learn(row, entry.carts_next > entry.carts_same, entry.predicted[1])


def _or_none(values: Floats) -> list[float | None]:
    """None for nan."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def _logit(probability: float) -> float:
    probability = min(1 - 1e-9, max(1e-9, probability))
    return math.log(probability / (1 - probability))
