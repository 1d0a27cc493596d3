"""Online methods behind one small protocol, and batch k-means, which they are measured by.

All get the same features (fed.py). Those that want k are told the number of kinds that live for most of the run;
the batch solutions are told how many live at the moment. Parameters were chosen on the development seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from river import cluster
from sklearn.cluster import KMeans, MiniBatchKMeans

from online_models.clustering.kmeans import lloyd, plus_plus
from online_models.distances import nearest
from state import features
from tests.quality.fed import Fed
from tests.quality.measures import Labels
from tests.quality.planted import Ints
from tests.quality.played import Floats

K = 11


class Contender(Protocol):
    """learn: rows that came since the last time, in order; label: lines as of now, ids as the method gives them."""

    def learn(self, fed: Fed, i: int) -> None: ...
    def label(self, lines: Floats) -> Ints: ...


class Entry(NamedTuple):
    name: str
    note: str  # what it gets that others do not
    make: Callable[[int], Contender]  # from a seed


class _Centres:
    """A method that comes down to centres (k, F), each with an id."""

    def __init__(self) -> None:
        self.centres: Floats | None = None

    def label(self, lines: Floats) -> Ints:
        if self.centres is None:
            return np.zeros(len(lines), np.int64)
        return nearest(lines, self.centres)[0].astype(np.int64)


class Batch(_Centres):
    """sklearn's KMeans, ten starts, refitted at each time on the people (or the rows) of the last seven days."""

    def __init__(self, seed: int, rows: bool = False) -> None:
        super().__init__()
        self.seed, self.rows = seed, rows

    def learn(self, fed: Fed, i: int) -> None:
        k = len(fed.data.planted.live(int(fed.data.times[i])))
        lines = fed.window(i) if self.rows else fed.people(i)[fed.data.active(i)]
        if len(lines) >= 10 * k:
            self.centres = KMeans(k, n_init=10, random_state=self.seed).fit(lines).cluster_centers_


class MiniBatch(_Centres):
    """sklearn's MiniBatchKMeans.partial_fit, so many rows at a time."""

    def __init__(self, seed: int, size: int = 1_024) -> None:
        super().__init__()
        self.size = size
        self._model = MiniBatchKMeans(K, random_state=seed, n_init=3)
        self._rest: Floats | None = None

    def learn(self, fed: Fed, i: int) -> None:
        for lines in _pieces(self, fed.rows(i), self.size):
            self._model.partial_fit(lines)
            self.centres = self._model.cluster_centers_


class Spark(_Centres):
    """The rule of Spark's StreamingKMeans, 256 rows at a time: a decayed weighted mean; a dying centre is put where
    half of the heaviest one is. It starts from a Lloyd solution of the first thousand rows instead of at random."""

    def __init__(self, seed: int, halflife: float = 500.0) -> None:
        super().__init__()
        self.seed, self.decay = seed, 0.5 ** (256 / halflife)
        self._weight = np.zeros(K)
        self._rest: Floats | None = None

    def learn(self, fed: Fed, i: int) -> None:
        for lines in _pieces(self, fed.rows(i), 256 if self.centres is not None else 1_000):
            if self.centres is None:
                self.centres = lloyd(lines, plus_plus(lines, K, self.seed), 50)
            label = self.label(lines)
            count = np.bincount(label, minlength=K).astype(np.float64)
            total = np.zeros_like(self.centres)
            np.add.at(total, label, lines)
            self._weight *= self.decay
            some = count > 0
            weight = (self._weight + count)[some, None]
            self.centres[some] = (self.centres[some] * self._weight[some, None] + total[some]) / weight
            self._weight += count
            least, most = int(self._weight.argmin()), int(self._weight.argmax())
            if self._weight[least] < 1e-8 * self._weight[most]:
                self._weight[[least, most]] = (self._weight[least] + self._weight[most]) / 2
                shift = 1e-14 * np.maximum(np.abs(self.centres[most]), 1.0)
                self.centres[least], self.centres[most] = self.centres[most] - shift, self.centres[most] + shift


def _pieces(holder: Any, lines: Floats, size: int) -> Iterator[Floats]:
    """Whole pieces of a size; what is left is kept in the holder for the next time."""
    if holder._rest is not None:
        lines = np.concatenate((holder._rest, lines))
    whole = len(lines) // size
    holder._rest = lines[whole * size :]
    yield from (lines[j * size : (j + 1) * size] for j in range(whole))


class Started(cluster.KMeans):  # type: ignore[misc]
    """River's KMeans that begins where a Lloyd solution of its first thousand rows is."""

    def __init__(self, halflife: float, seed: int) -> None:
        super().__init__(K, halflife=halflife, seed=seed)
        self.centers = {}
        self._first: list[dict[int, float]] = []

    def learn_one(self, x: dict[int, float]) -> None:
        if self.centers:
            super().learn_one(x)
            return
        self._first.append(x)
        if len(self._first) == 1_000:
            rows = np.array([list(row.values()) for row in self._first])
            centres = lloyd(rows, plus_plus(rows, K, self.seed), 50).tolist()
            self.centers = {k: dict(enumerate(line)) for k, line in enumerate(centres)}


class River:
    """A River clusterer, row by row (each `stride`-th row). Its answers are those of its predict_one, found by arrays:
    the nearest of points that each have an id (points: what its predict_one looks at)."""

    def __init__(self, model: Any, points: Callable[[Any], tuple[list[dict[int, float]], list[int]]], stride: int = 1):
        self.model, self._points, self._stride, self._at = model, points, stride, 0
        self._centres: Floats | None = None
        self._ids = np.zeros(1, np.int64)

    def learn(self, fed: Fed, i: int) -> None:
        lines = fed.rows(i)
        for line in lines[-self._at % self._stride :: self._stride].tolist():
            self.model.learn_one(dict(enumerate(line)))
        self._at += len(lines)
        points, ids = self._points(self.model)
        if points:
            self._centres = np.array([[point.get(j, 0.0) for j in range(lines.shape[1])] for point in points])
            self._ids = np.array(ids, np.int64)

    def label(self, lines: Floats) -> Ints:
        if self._centres is None:
            return np.zeros(len(lines), np.int64)
        return self._ids[nearest(lines, self._centres)[0]]


def by_centres(model: Any) -> tuple[list[dict[int, float]], list[int]]:
    return list(model.centers.values()), list(model.centers)


def by_micro_clusters(model: cluster.CluStream) -> tuple[list[dict[int, float]], list[int]]:
    centres = [micro.center for micro in model.micro_clusters.values()]
    return (centres, [model._kmeans_mc.predict_one(one) for one in centres]) if model._kmeans_mc else ([], [])


def after_predict(model: Any) -> tuple[list[dict[int, float]], list[int]]:
    """DenStream and DBSTREAM find their clusters when they are asked."""
    try:
        model.predict_one(dict.fromkeys(range(len(features.NAMES)), 0.0))
    except (ValueError, KeyError):
        return [], []
    clusters = model.clusters
    return [one.center for one in clusters.values()], list(clusters)


def ride(fed: Fed, contender: Contender, progress: Callable[[float], None] = lambda _: None) -> Labels:
    """Let a contender learn the rows in order; what it says of everyone as of each time."""
    shape = len(fed.data.times), fed.data.planted.users
    now, again, before = (np.full(shape, -1) for _ in range(3))
    for i in range(len(now)):
        if i:
            before[i] = contender.label(fed.people(i, i - 1))
        contender.learn(fed, i)
        now[i] = contender.label(fed.people(i))
        if i >= 2:
            again[i] = contender.label(fed.people(i - 2, i))
        progress((i + 1) / len(now))
    return Labels(now, again, before)


ENTRIES = (
    Entry("batch k-means", "people as of each time, k as it is, 10 starts: the reference", Batch),
    Entry("batch k-means on rows", "the rows of 7 days at each time, k as it is, 10 starts", lambda s: Batch(s, True)),
    Entry("River KMeans", "its defaults", lambda s: River(cluster.KMeans(K, seed=s), by_centres)),
    Entry("River KMeans, tuned", "halflife 0.05, a Lloyd start", lambda s: River(Started(0.05, s), by_centres)),
    Entry("STREAMKMeans", "chunks of 500, halflife 0.5",
          lambda s: River(cluster.STREAMKMeans(500, K, halflife=0.5, seed=s), by_centres)),
    Entry("CluStream", "every 8th row; 100 micro-clusters, a window of a week, halflife 0.8",
          lambda s: River(cluster.CluStream(K, 100, time_window=1_250, time_gap=200, seed=s, halflife=0.8),
                          by_micro_clusters, 8)),
    Entry("DenStream", "epsilon 0.6",
          lambda s: River(cluster.DenStream(0.01, beta=0.5, mu=4.0, epsilon=0.6, n_samples_init=500), after_predict)),
    Entry("DBSTREAM", "every 8th row; threshold 1.1, shared 0.05",
          lambda s: River(cluster.DBSTREAM(1.1, fading_factor=0.001, cleanup_interval=200, intersection_factor=0.05,
                                           minimum_weight=3.0), after_predict, 8)),
    Entry("MiniBatchKMeans", "partial_fit, 1,024 rows at a time", MiniBatch),
    Entry("Spark's rule", "256 rows at a time, half-life 500 rows, a Lloyd start", Spark),
)  # fmt: skip
