"""How likely a shopper is to buy within seven days, and to add a cart in the next session if there is one.

River's logistic regression, learned on line from rows of the log as their outcomes ripen (online_models/outcomes.py says
what they are; here they are found while the log goes by). A row in a visit and one between visits are two models: most
who buy do so in the visit that they are in, and what tells them apart says little of those who are gone (measured:
python -m tests.bench.propensity). Rows in a visit are ROW records, those between visits DAY records.
"""

from __future__ import annotations

import math
from bisect import insort

import msgspec
import numpy as np
from river.linear_model import LogisticRegression
from river.optim import SGD
from river.preprocessing import StandardScaler
from river.utils import VectorDict

from online_models.calibration import Calibration, Tally
from online_models.nearest import Floats
from online_models.outcomes import HORIZON
from online_models.rows import DAY, ROW, USER, Rows
from online_models.sample import Sample

OUTCOMES = ("purchase", "cart")
STATES = ("visit", "away")
RATE = 0.001  # of learning; larger ones swing with each of the few buyers
CLIP = 3.0  # deviations: a count that is nil for nearly all would outweigh all others
START = (-4.0, -1.5)  # intercepts: rates to begin with
LOW, HIGH, BINS = -10.0, 4.0, 56  # of the score, a logit


class Params(msgspec.Struct, frozen=True):
    ratios: int  # R: the first 2R columns of a raw line are counts, the others logarithms
    recent: int  # the column that is above nil in a visit: pages in the last hour
    waiting: int = 8_192  # rows whose outcome is not known, at most
    least: int = 500  # rows learned from before anything is foretold
    horizon: int = HORIZON  # ms


class Head(msgspec.Struct, frozen=True):
    """One outcome in one state: F = 2R + L weights of features in deviations from their means."""

    mean: list[float]
    deviation: list[float]  # 0.0: the feature says nothing
    weight: list[float]
    intercept: float
    calibration: Calibration


class Propensity(msgspec.Struct, frozen=True):
    """Heads by state, then outcome; None where too few rows were learned from."""

    ratios: int
    recent: int
    heads: list[Head | None]


def propensity(model: Propensity, raw: Floats) -> Floats:
    """Probabilities (n, 2) of a purchase within seven days and of a cart in the next session, if there is one, for raw
    lines (n, 2R + L); nan where it is not known yet. Elementwise."""
    score = scores(model, raw)
    out = np.full(score.shape, np.nan)
    away = _away(raw, model.recent)
    for i, head in enumerate(model.heads):
        if head is not None:
            state, outcome = divmod(i, len(OUTCOMES))
            at = np.flatnonzero(away == state)
            out[at, outcome] = head.calibration.apply(score[at, outcome])
    return out


def scores(model: Propensity, raw: Floats) -> Floats:
    """The logits (n, 2) before calibration."""
    out = np.full((len(raw), len(OUTCOMES)), np.nan)
    away, columns = _away(raw, model.recent), np.ascontiguousarray(features(raw, model.ratios).T)
    for i, head in enumerate(model.heads):
        if head is not None:
            state, outcome = divmod(i, len(OUTCOMES))
            at = np.flatnonzero(away == state)
            total = np.full(len(at), head.intercept)
            for column, mean, deviation, weight in zip(
                columns, head.mean, head.deviation, head.weight, strict=True
            ):
                if deviation:
                    total += np.clip((column[at] - mean) / deviation, -CLIP, CLIP) * weight
            out[at, outcome] = total
    return out


def features(raw: Floats, ratios: int) -> Floats:
    """All columns as logarithms (n, 2R + L). They belong to no version, so what is learned outlives its scaler."""
    return np.concatenate((np.log1p(raw[:, : 2 * ratios]), raw[:, 2 * ratios :]), axis=1)


def _away(raw: Floats, recent: int) -> np.ndarray:
    return (raw[:, recent] <= 0).astype(np.int64)


class _Waiting(msgspec.Struct, array_like=True):
    """A row, and what has come of it so far."""

    now: int
    number: int  # in the log, of those that came to wait
    sessions: int
    orders: int
    away: int
    line: list[int | float]  # the raw line; whole numbers as such: they are short
    score: list[float | None]  # by outcome, as foretold when it came
    told: list[float | None]
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
    tally: Tally


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
        self.tally = Tally.of(LOW, HIGH, BINS)

    def learn(self, x: dict[int, float], y: bool) -> None:
        self.river.learn_one(x, y)
        self.rows += 1

    def fit(self, width: int) -> _Fit:
        weights = self.river.weights
        return _Fit([weights.get(i, 0.0) for i in range(width)], self.river.intercept, self.rows, self.tally)

    @classmethod
    def of(cls, fit: _Fit, outcome: int) -> _Regression:
        one = cls(outcome)
        if fit.rows:
            one.river._weights = VectorDict(dict(enumerate(fit.weight)))
        one.river.intercept, one.rows, one.tally = fit.intercept, fit.rows, fit.tally
        one.river.optimizer.n_iterations = fit.rows
        return one


class Learning:
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
    def start(cls, params: Params) -> Learning:
        return cls(params)

    @classmethod
    def resume(cls, state: bytes, params: Params, model: Propensity | None) -> Learning:
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
        away = _away(rows.raw, self.params.recent).tolist()
        score = told = np.full((len(rows), len(OUTCOMES)), np.nan)
        if self.model is not None:
            score, told = scores(self.model, rows.raw), propensity(self.model, rows.raw)
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
                    now, self._number, record[1], record[3], away[i], _whole(rows.raw[i]), _known(score[i]),
                    _known(told[i]), record, record[2], record[2],
                )  # fmt: skip
                self._number += 1
                self._waiting.add(user, entry)
                insort(self._due, (now, entry.number, user))

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
                f"{name}_auc": fit.tally.auc(), f"{name}_calibration_error": fit.tally.error(),
                f"{name}_told_by_came": fit.tally.ratio(), f"{name}_predictions": float(sum(fit.tally.count)),
            }  # fmt: skip
        return found

    def _ripen(self) -> None:
        """Learn from what has waited out the horizon."""
        while self._due and self._due[0][0] + self.params.horizon < self._time:
            _, number, user = self._due.pop(0)
            mine = self._waiting.of(user)
            found = next((one for one in mine if one.number == number), None)
            if found is not None:  # else it had to leave
                self._waiting.keep(user, [one for one in mine if one is not found])
                self._see(found)

    def _see(self, one: _Waiting) -> None:
        line = features(np.array([one.line], np.float64), self.params.ratios)[0]
        scaler = self._scalers[one.away]
        x = dict(enumerate(line.tolist()))
        scaler.learn_one(x)
        scaled = {i: min(CLIP, max(-CLIP, value)) for i, value in scaler.transform_one(x).items()}
        came = (one.bought, one.following > one.same)
        for outcome, hit in enumerate(came):
            if outcome and not one.returned:
                continue  # no next session
            fit = self._fits[one.away * len(OUTCOMES) + outcome]
            score, told = one.score[outcome], one.told[outcome]
            if score is not None and told is not None:
                fit.tally.add(score, told, hit)
            fit.learn(scaled, hit)

    def _head(self, i: int) -> Head | None:
        fit = self._fits[i]
        if fit.rows < self.params.least:
            return None
        scaler = self._scalers[i // len(OUTCOMES)]
        weights = fit.river.weights
        columns = range(len(scaler.means))
        own = 1.0 / (1.0 + np.exp(-fit.tally.middles))
        return Head(
            [scaler.means[j] for j in columns], [math.sqrt(scaler.vars[j]) for j in columns],
            [weights.get(j, 0.0) for j in columns], fit.river.intercept, fit.tally.calibration(own),
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


def _whole(line: Floats) -> list[int | float]:
    return [int(value) if value.is_integer() else value for value in line.tolist()]


def _known(values: Floats) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
