"""Propensities, learned on line from rows of the log as their outcomes ripen.

What came of a row is what online_models/outcomes.py says, found while the log goes by. Learned from are ROW records of
shoppers in a visit and DAY records of those who are away: only these are as of a time that the shopper did not choose.
The learner is River's: StandardScaler and LogisticRegression, one of each a state, one regression an outcome.
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

from online_models.calibration import Calibration, Tally
from online_models.lines import pack, unpack
from online_models.nearest import Floats
from online_models.outcomes import HORIZON
from online_models.propensity import CLIP, OUTCOMES, STATES, Head, Propensity, away_from, features, propensity
from online_models.rows import DAY, ROW, USER, Rows
from online_models.sample import Sample

RATE = 0.001  # of learning; larger ones swing with each of the few buyers
START = (-4.0, -1.5)  # intercepts: rates to begin with
FIRST = 256  # rows after which, and after each doubling, what scores were worth before says half as much
LOW, HIGH, BINS = -8.0, 16.0, 96  # of the score, by the length of the weights


class Params(msgspec.Struct, frozen=True):
    ratios: int  # R: the first 2R columns of a raw line are counts, the others logarithms
    recent: int  # the column that is above nil in a visit: pages in the last hour
    waiting: int = 8_192  # rows whose outcome is not known, at most
    least: int = 200  # rows learned from before anything is foretold
    horizon: int = HORIZON  # ms


class _Waiting(msgspec.Struct, array_like=True):
    """A row, and what has come of it so far."""

    now: int
    number: int  # in the log, of those that came to wait
    sessions: int
    orders: int
    away: int
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

    weight: list[float]
    intercept: float
    rows: int
    scores: Tally
    told: Tally


class _State(msgspec.Struct, array_like=True):
    waiting: list[tuple[bytes, list[_Waiting]]]
    number: int
    time: int
    scaled: list[int]  # rows by state
    mean: list[list[float]]
    variance: list[list[float]]
    fits: list[_Fit]


class _Regression:
    """River's, one outcome in one state."""

    def __init__(self, outcome: int) -> None:
        self.river = LogisticRegression(SGD(RATE), intercept_init=START[outcome])
        self.rows = 0
        self.scores = Tally.of(LOW, HIGH, BINS)  # by its score just before it learns a row: what a score is worth
        self.told = Tally.of(-10.0, 4.0, BINS)  # by the logit of what was told when the row came: how good that was

    def learn(self, x: dict[int, float], y: bool, told: float | None) -> None:
        """A row, what came of it, and what was told of that."""
        along = (self.river._raw_dot_one(x) - self.river.intercept) / self.length
        self.scores.add(along, 0.0, y)
        if told is not None:
            self.told.add(_logit(told), told, y)
        self.river.learn_one(x, y)
        self.rows += 1
        if self.rows >= FIRST and self.rows & (self.rows - 1) == 0:  # what scores were worth while weights were new
            self.scores.fade()

    @property
    def length(self) -> float:
        """Of the weights; 1.0 while there are none."""
        return math.sqrt(sum(weight * weight for weight in self.river.weights.values())) or 1.0

    def calibration(self) -> Calibration:
        return self.scores.calibration(np.full(BINS, self.scores.rate))

    def fit(self, width: int) -> _Fit:
        weights = self.river.weights
        return _Fit(
            [weights.get(i, 0.0) for i in range(width)], self.river.intercept, self.rows, self.scores, self.told
        )

    @classmethod
    def of(cls, fit: _Fit, outcome: int) -> _Regression:
        one = cls(outcome)
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
        self._scalers = [StandardScaler() for _ in STATES]
        self._fits = [_Regression(i) for _ in STATES for i in range(len(OUTCOMES))]

    @classmethod
    def start(cls, params: Params) -> PropensityLearner:
        return cls(params)

    @classmethod
    def resume(cls, state: bytes, params: Params, model: Propensity | None) -> PropensityLearner:
        """Go on from the state and model of a version: as if it had never stopped."""
        one, kept = cls(params), msgspec.msgpack.decode(state, type=_State)
        for user, entries in kept.waiting:
            one._waiting.keep(user, entries)
            one._due += [(entry.now, entry.number, user) for entry in entries]
        one._due.sort()
        one._number, one._time, one.model = kept.number, kept.time, model
        one._scalers = [
            StandardScaler._from_state(
                dict.fromkeys(range(len(mean)), count), dict(enumerate(mean)), dict(enumerate(variance))
            )
            for count, mean, variance in zip(kept.scaled, kept.mean, kept.variance, strict=True)
        ]
        one._fits = [_Regression.of(fit, i % len(OUTCOMES)) for i, fit in enumerate(kept.fits)]
        return one

    def state(self) -> bytes:
        """What `resume` goes on from, together with the model published last."""
        mean = [list(scaler.means.values()) for scaler in self._scalers]
        return msgspec.msgpack.encode(
            _State(
                list(self._waiting.items()), self._number, self._time,
                [max(scaler.counts.values(), default=0) for scaler in self._scalers], mean,
                [list(scaler.vars.values()) for scaler in self._scalers],
                [fit.fit(len(mean[i // len(OUTCOMES)])) for i, fit in enumerate(self._fits)],
            )
        )  # fmt: skip

    def learn(self, rows: Rows) -> None:
        """All rows of the log, in its order."""
        if not len(rows):
            return
        away = away_from(rows.raw, self.params.recent).tolist()
        told = np.full((len(rows), len(OUTCOMES)), np.nan)
        if self.model is not None:
            told = propensity(self.model, rows.raw)
        users, size = rows.user.tobytes(), USER.itemsize
        totals = zip(*(c.tolist() for c in (rows.now, rows.sessions, rows.carts, rows.orders)), strict=True)
        for i, (kind, record) in enumerate(zip(rows.kind.tolist(), totals, strict=True)):
            user, now = users[i * size : (i + 1) * size], record[0]
            if now > self._time:
                self._time = now
                self._ripen()
            for one in self._waiting.of(user):
                _hear(one, record, self.params.horizon)
            if kind == (DAY if away[i] else ROW):
                entry = _Waiting(
                    now, self._number, record[1], record[3], away[i], pack(rows.raw[i]), _known(told[i]), record,
                    record[2], record[2],
                )  # fmt: skip
                self._number += 1
                insort(self._due, (now, entry.number, user))
                for gone in self._waiting.add(user, entry):
                    del self._due[bisect_left(self._due, (gone.now, gone.number, b""))]

    def publish(self) -> Propensity:
        """What the next version says."""
        heads = [self._head(i) for i in range(len(self._fits))]
        self.model = Propensity(self.params.ratios, self.params.recent, heads)
        return self.model

    def figures(self) -> dict[str, float]:
        """Of predictions made when a row came, by the version of then, and judged when its outcome was known: by
        outcome and state the area under the ROC curve, how far probabilities were off, what was told by what came,
        and the number of them. Older ones fade."""
        found: dict[str, float] = {}
        for i, fit in enumerate(self._fits):
            state, outcome = divmod(i, len(OUTCOMES))
            name = f"{OUTCOMES[outcome]}_{STATES[state]}"
            found |= {
                f"{name}_auc": fit.told.auc(), f"{name}_calibration_error": fit.told.error(),
                f"{name}_told_by_came": fit.told.ratio(), f"{name}_predictions": fit.told.seen,
            }  # fmt: skip
        return found

    def _ripen(self) -> None:
        """Learn from what has waited out the horizon."""
        while self._due and self._due[0][0] + self.params.horizon < self._time:
            _, number, user = self._due.pop(0)
            mine = self._waiting.of(user)
            self._waiting.keep(user, [one for one in mine if one.number != number])
            self._see(next(one for one in mine if one.number == number))

    def _see(self, one: _Waiting) -> None:
        line = features(unpack([one.line]), self.params.ratios)[0]
        scaler = self._scalers[one.away]
        x = dict(enumerate(line.tolist()))
        scaler.learn_one(x)
        scaled = {i: min(CLIP, max(-CLIP, value)) for i, value in scaler.transform_one(x).items()}
        came = (one.bought, one.following > one.same)
        for outcome, hit in enumerate(came):
            if outcome and not one.returned:
                continue  # no next session
            self._fits[one.away * len(OUTCOMES) + outcome].learn(scaled, hit, one.told[outcome])

    def _head(self, i: int) -> Head | None:
        fit = self._fits[i]
        if fit.rows < self.params.least:
            return None
        scaler = self._scalers[i // len(OUTCOMES)]
        weights = fit.river.weights
        columns = range(len(scaler.means))
        return Head(
            [scaler.means[j] for j in columns], [math.sqrt(scaler.vars[j]) for j in columns],
            [weights.get(j, 0.0) for j in columns], fit.river.intercept, fit.length, fit.calibration(),
        )  # fmt: skip


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
