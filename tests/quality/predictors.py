"""What may foretell a shopper's next days: each is fitted to shoppers as of earlier times, then scores later ones.

A predictor is asked in the order of time: fit on lines whose outcome was known by then, score lines as of then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Protocol

import numpy as np
from river import linear_model, optim, preprocessing
from sklearn.ensemble import HistGradientBoostingClassifier

from online_models.assignment import assign
from online_models.clustering.scaler import fit
from online_models.encoder.encoder import Encoder
from online_models.holdout import in_holdout
from online_models.learner.learner import Learner
from online_models.learner.space_change import change_space
from online_models.prediction.propensity import is_away
from online_models.prediction.propensity import predict as predict_propensity
from online_models.prediction.propensity_learner import PropensityLearner, PropensityParams
from online_models.training_rows import SAMPLE_ROW
from online_models.version import Version
from state import features
from streams.learner import params
from streams.settings import load
from tests.quality.shoppers import Shoppers

RFM, WINDOWS, EMBEDDING = "RFM quintiles", "segments on the windows", "segments on the embedding"
SMOOTHING = 20.0  # lines that the shop's rate counts for in that of a group
QUINTILES = np.arange(1, 5) / 5


class Predictor(Protocol):
    def score(self, known: np.ndarray, asked: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        """Scores of the lines asked (indices), all as of one time; outcome (n,) may be looked at for the known."""
        ...


class Skipped(Exception):
    """A predictor cannot be had, and why."""


def group_rates(group: np.ndarray, outcome: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The rate of the outcome in the group of each of those asked, drawn toward the rate of all."""
    size = int(max(group.max(initial=-1), asked.max(initial=-1))) + 1
    hits, count = np.bincount(group, outcome, size), np.bincount(group, minlength=size)
    base = (outcome.sum() + 0.5) / (len(outcome) + 1.0)
    return ((hits + SMOOTHING * base) / (count + SMOOTHING))[asked]


class Rfm:
    """Cells of recency (of the last event), frequency (sessions) and money, each in quintiles of the shoppers known."""

    def __init__(self, data: Shoppers) -> None:
        recency = (data.time - data.last).astype(float)
        self._columns = [-recency, data.column("sessions_30d"), data.column("spend_30d")]

    def score(self, known: np.ndarray, asked: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        cell_known, cell_asked = np.zeros(len(known), np.int64), np.zeros(len(asked), np.int64)
        for column in self._columns:
            edges = np.quantile(column[known], QUINTILES)
            cell_known = 5 * cell_known + np.searchsorted(edges, column[known])
            cell_asked = 5 * cell_asked + np.searchsorted(edges, column[asked])
        return group_rates(cell_known, outcome[known], cell_asked)


class Column:
    """One windowed column as it is."""

    def __init__(self, data: Shoppers, name: str) -> None:
        self._column = data.column(name)

    def score(self, known: np.ndarray, asked: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        return self._column[asked].astype(float)


class Learned:
    """shoal's learner, fed the training rows in log order; at each time its newest version then."""

    def __init__(self, data: Shoppers, **settings: int) -> None:
        self._rows = data.rows
        chosen = load(environ={}, **{f"learner.{name}": value for name, value in settings.items()})
        self.params = params(chosen)
        self._learner = Learner.start(self.params)
        self._at = 0
        self._versions: dict[int, Version | None] = {}

    def version(self, time: int) -> Version:
        """As of a time (ms), which was asked for before or is later than all that were; Skipped where there is none."""
        if time not in self._versions:
            end = int(np.searchsorted(np.maximum.accumulate(self._rows.now), time, "right"))
            if end > self._at:
                self._learner.learn(self._rows.take(slice(self._at, end)))
            self._at = end
            self._versions[time] = self._learner.version
        found = self._versions[time]
        if found is None:
            raise Skipped("no version was learned by then")
        return found


class Segments:
    """The rate of each segment, among shoppers as of earlier times."""

    def __init__(self, data: Shoppers, learned: Learned | Embedded) -> None:
        self._data, self._learned = data, learned
        self._sizes: list[int] = []  # segments of the version at each time

    @property
    def note(self) -> str:
        return f"{min(self._sizes)} to {max(self._sizes)} of them" if self._sizes else ""

    def score(self, known: np.ndarray, asked: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        version = self._learned.version(int(self._data.time[asked[0]]))
        self._sizes.append(len(version.ids))
        then, now = (assign(version, self._data.raw[at]).segment for at in (known, asked))
        return group_rates(then, outcome[known], now)


class Embedded:
    """The learner's version at each time, carried over into the embedding of an encoder trained on the rows so far."""

    def __init__(self, data: Shoppers, learned: Learned, *, clustered: bool = False, seed: int | None = None) -> None:
        """clustered: with as many clusters in the training as there are segments; seed: of it, else the default."""
        self._rows, self._learned, self._clustered, self._seed = data.rows, learned, clustered, seed
        self._versions: dict[int, Version] = {}

    def version(self, time: int) -> Version:
        """As Learned has it."""
        if time not in self._versions:
            version = self._learned.version(time)
            rows = self._rows.take((self._rows.kind == SAMPLE_ROW) & (self._rows.now <= time))
            out = in_holdout(rows.user)
            encoder = self._trained(rows.raw[~out], rows.raw[out], len(version.ids))
            window = rows.raw[~out][-self._learned.params.window :]
            self._versions[time] = change_space(version, window, "embedding", encoder)
        return self._versions[time]

    def _trained(self, raw: np.ndarray, held: np.ndarray, segments: int) -> Encoder:
        try:
            from online_models.encoder.autoencoder import Plan, train
        except ModuleNotFoundError as error:
            raise Skipped(f"{error.name} is not installed") from None
        chosen = {} if self._seed is None else {"seed": self._seed}
        plan = Plan(clusters=segments if self._clustered else 0, device="cpu", **chosen)
        return train(raw, held, features.NAMES, features.R, plan, perf_counter)[0]


class Logistic:
    """River's logistic regression on the row's features: each line is learned once, when its outcome is known."""

    def __init__(self, data: Shoppers) -> None:
        self._data = data
        self._model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01), l2=1e-5)
        self._learned = np.zeros(len(data.time), bool)
        self._features: np.ndarray | None = None

    def score(self, known: np.ndarray, asked: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        if self._features is None:  # priors of the ratios from what was known first
            self._features = fit(self._data.raw[known], features.R).transform(self._data.raw)
        for line in known[~self._learned[known]].tolist():
            self._model.learn_one(self._line(line), bool(outcome[line]))
        self._learned[known] = True
        return np.array([self._model.predict_proba_one(self._line(line)).get(True, 0.0) for line in asked.tolist()])

    def _line(self, line: int) -> dict[str, float]:
        assert self._features is not None
        return dict(zip(features.NAMES, self._features[line].tolist(), strict=True))


class Shipped:
    """shoal's own propensities, fed the training rows in log order, a version at each time; of whom nothing is said
    yet, which is the lowest score. The outcomes of the shoppers known are not looked at."""

    def __init__(self, data: Shoppers) -> None:
        self._data, self._at = data, 0
        self._learner = PropensityLearner(PropensityParams(features.R))
        self._top = np.maximum.accumulate(data.rows.now)
        self._told = self._all = 0

    @property
    def note(self) -> str:
        return f"{self._told / max(1, self._all):.0%} of the shoppers have one"

    def score(self, known: np.ndarray, asked: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        time, data = int(self._data.time[asked[0]]), self._data
        end = int(np.searchsorted(self._top, time, "right"))
        self._learner.learn(data.rows.take(slice(self._at, end)))
        self._at, model = end, self._learner.publish()
        self._all += len(asked)
        if model is None:
            return np.zeros(len(asked))
        away = is_away(time, data.last[asked])
        found = predict_propensity(model, data.raw[asked], away)[:, int(outcome is data.carted)]
        self._told += int(np.count_nonzero(~np.isnan(found)))
        return np.nan_to_num(found, nan=0.0)


class Boosting:
    """sklearn's gradient boosting on all columns, the row's features and the time since the last event: the ceiling."""

    def __init__(self, data: Shoppers) -> None:
        self._table = np.column_stack([data.windows, data.raw, data.time - data.last]).astype(np.float32)

    def score(self, known: np.ndarray, asked: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        model = HistGradientBoostingClassifier(
            learning_rate=0.05, max_iter=120, max_leaf_nodes=12, min_samples_leaf=60, l2_regularization=5.0,
            random_state=0,
        )  # fmt: skip
        return model.fit(self._table[known], outcome[known]).predict_proba(self._table[asked])[:, 1]


def contenders(data: Shoppers, ks: tuple[int, ...], encoders: int = 0) -> dict[str, Callable[[], Predictor]]:
    """How to make each predictor, by name; ks: numbers of segments to begin with, encoders: how many more, of other
    seeds, to try beside the default."""
    learned = Learned(data)
    embedded = {
        EMBEDDING: Embedded(data, learned), f"{EMBEDDING}, clustered": Embedded(data, learned, clustered=True),
        **{f"{EMBEDDING}, seed {one}": Embedded(data, learned, seed=one) for one in range(1, encoders + 1)},
    }  # fmt: skip
    return {
        RFM: lambda: Rfm(data),
        "carts_30d alone": lambda: Column(data, "carts_30d"),
        WINDOWS: lambda: Segments(data, learned),
        **{f"{WINDOWS}, k = {k}": partial(Segments, data, Learned(data, k_least=k, k_most=k)) for k in ks},
        **{name: partial(Segments, data, one) for name, one in embedded.items()},
        "logistic on the row, on line": lambda: Logistic(data),
        "propensity, as shipped": lambda: Shipped(data),
        "gradient boosting": lambda: Boosting(data),
    }
