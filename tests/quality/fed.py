"""What every contender gets: shoal's features, rows in the order of the log, people as of each time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from online_models.clustering.scaler import Scaler, fit, weigh
from online_models.learner.panel import PAIR_GAP, SPAN
from state import features
from tests.quality.planted import DAY, Ints
from tests.quality.played import Data, Floats

TRAILING = 7 * DAY


@dataclass(frozen=True, slots=True)
class Fed:
    """The features of a planted stream. Between two times one scaler is in force: shoal's, fitted at the time before
    on the newest row of each shopper in the seven days up to then, and weighed as shoal's is."""

    data: Data
    scalers: list[Scaler]  # (t,) in force up to each time
    learned: Ints  # indices of the training records that are learned from
    upto: Ints  # (t,) how many of them were there by then

    @classmethod
    def of(cls, data: Data) -> Fed:
        learned = data.taught.learned()
        upto = np.searchsorted(learned, data.upto)
        now, user, raw = data.taught.rows.now[learned], data.taught.user[learned], data.taught.rows.raw[learned]
        fitted = []
        for time, stop in zip(data.times.tolist(), upto.tolist(), strict=True):
            recent = np.flatnonzero(now[:stop] >= time - TRAILING)
            people = raw[recent[_newest(user[recent])]]
            seen = np.flatnonzero(now[:stop] >= time - SPAN)
            fitted.append(_weighed(fit(people, features.R), people, user[seen], now[seen], raw[seen]))
        return cls(data, [fitted[0], *fitted[:-1]], learned, upto)

    def rows(self, i: int) -> Floats:
        """Features (n, F) of the rows that came between time i - 1 and time i, in order."""
        at = self.learned[self.upto[i - 1] if i else 0 : self.upto[i]]
        return self.scalers[i].transform(self.data.taught.rows.raw[at])

    def window(self, i: int) -> Floats:
        """Features of the rows of the seven days up to time i."""
        at = self.learned[: self.upto[i]]
        at = at[self.data.taught.rows.now[at] >= self.data.times[i] - TRAILING]
        return self.scalers[i].transform(self.data.taught.rows.raw[at])

    def people(self, i: int, scaled: int | None = None) -> Floats:
        """Features (users, F) of all users as of time i, by the scaler in force up to time `scaled` (i)."""
        return self.scalers[i if scaled is None else scaled].transform(self.data.raw[i])


def _weighed(fitted: Scaler, people: Floats, user: Ints, now: Ints, raw: Floats) -> Scaler:
    """By what pairs of rows of a shopper, days apart, say of how shoppers change."""
    order = np.argsort(user, kind="stable")
    user, now, lines = user[order], now[order], fitted.scaled(raw[order])
    gap = now[1:] - now[:-1]
    pair = np.flatnonzero((user[1:] == user[:-1]) & (gap >= PAIR_GAP))
    renewed = np.minimum(1.0, gap[pair, None] / (np.array(features.MEMORY) * DAY))
    change = ((lines[pair + 1] - lines[pair]) ** 2 / renewed).sum(0) / 2
    return weigh(fitted, people, float(len(pair)), change)


def _newest(user: Ints) -> Ints:
    """Index of the last row of each user."""
    _, first = np.unique(user[::-1], return_index=True)
    return len(user) - 1 - first
