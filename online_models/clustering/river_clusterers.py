"""River's stream clusterers DBSTREAM, DenStream and CluStream, behind one protocol with shoal's k-means.

All learn points in order and come down to centres, which is what a version holds. River's are made anew for each
version and learn the newest points of the people that the learner keeps: their micro-clusters lie in the space of one
scaler, which the next version moves, and a version needs no state of theirs to go on from. So their centres are a
function of the rows, as all else in a version.

Distances come down to sums in the order of the features, so that nothing depends on PYTHONHASHSEED.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from river import cluster

from online_models.clustering.kmeans import KMeans, lloyd, plus_plus
from online_models.distances import Floats, nearest

Name = Literal["kmeans", "dbstream", "clustream", "denstream"]
NAMES: tuple[Name, ...] = get_args(Name)
NEWEST = 1_500  # points that River's clusterers learn for a version: they take 0.6 to 8 ms a point
RADIUS = 0.6  # of a micro-cluster, as a share of the mean distance of points to their mean
START = 0.2  # share of the points that DenStream starts from
KMEANS_STARTS = 4


class Clusterer(Protocol):
    """Learns points (n, D) in order, over as many calls as one likes."""

    def learn_many(self, rows: Floats) -> None: ...

    @property
    def centre_matrix(self) -> Floats:
        """Centres (k, D); ValueError while there are none."""


class DBSTREAM(cluster.DBSTREAM):
    """River's DBSTREAM (Hahsler and Bolaños 2016); macro-clusters by weight, the heaviest first."""

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"clustering_threshold": 1.5}

    def learn_one(self, x: dict[Any, float], w: float | None = None) -> None:
        super().learn_one(dict(x), w)  # River's keeps the row itself as a centre

    def learn_many(self, rows: Floats) -> None:
        _learn_each(self, rows)

    @property
    def centre_matrix(self) -> Floats:
        return _heaviest_first([(macro.weight, macro.center) for macro in self.clusters.values()])


class DenStream(cluster.DenStream):
    """River's DenStream (Cao et al. 2006); macro-clusters by people, the heaviest first.

    Put right: asking for clusters changed the micro-clusters that they are made of, and a new micro-cluster took the
    place of an old one wherever one had been removed before.
    """

    p_micro_clusters: dict[int, Any]
    o_micro_clusters: dict[int, Any]

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"epsilon": 1.5, "beta": 0.5, "mu": 2.5, "n_samples_init": 50}

    def learn_one(self, x: dict[Any, float], w: float | None = None) -> None:
        self.p_micro_clusters, self.o_micro_clusters = _gapless(self.p_micro_clusters), _gapless(self.o_micro_clusters)
        super().learn_one(dict(x), w)

    @staticmethod
    def _generate_clusters_for_labels(cluster_labels: dict[Any, int]) -> tuple[int, dict[int, Any]]:
        own = {copy.deepcopy(micro): label for micro, label in cluster_labels.items()}
        clusters: tuple[int, dict[int, Any]] = cluster.DenStream._generate_clusters_for_labels(own)
        return clusters

    def learn_many(self, rows: Floats) -> None:
        _learn_each(self, rows)

    @property
    def centre_matrix(self) -> Floats:
        self.predict_one({})  # clusters are found when they are asked for
        return _heaviest_first([(float(macro.N), macro.center) for macro in self.clusters.values()])


class CluStream(cluster.CluStream):
    """River's CluStream (Aggarwal et al. 2003); its macro-clusters by k-means over the micro-clusters, weighted by
    people, as in the paper: River's own lets a k-means with random starts look at each micro-cluster once."""

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"n_macro_clusters": 3, "max_micro_clusters": 20, "time_gap": 50, "seed": 1}

    def learn_one(self, x: dict[Any, float], w: float = 1.0) -> None:
        super().learn_one(dict(x), w)

    def learn_many(self, rows: Floats) -> None:
        _learn_each(self, rows)

    @property
    def centre_matrix(self) -> Floats:
        micro = list(self.micro_clusters.values())
        positions = _matrix([each.center for each in micro])
        points = np.repeat(positions, [max(1, round(each.weight)) for each in micro], axis=0)
        k = min(self.n_macro_clusters, len(np.unique(positions, axis=0)))
        return _best_kmeans(points, k, self.seed or 0)


def make(name: Name, k: int, points: Floats, seed: int) -> Clusterer:
    """A clusterer for points (n, D) like these: radii are shares of how far they spread, for the scale of features is
    the shop's own. k is what k-means and CluStream are told; the others find their own number."""
    if name == "kmeans":
        return KMeans(n_clusters=k, seed=seed, warm_up=max(k, len(points)))
    if name == "clustream":
        span = max(2, len(points))
        return CluStream(k, max(50, 8 * k), time_window=span, time_gap=span, seed=seed)
    radius = RADIUS * _mean_distance(points)
    if name == "dbstream":
        return DBSTREAM(radius, fading_factor=0.001, cleanup_interval=200, intersection_factor=0.3, minimum_weight=3.0)
    start = max(1, round(START * len(points)))
    return DenStream(0.01, beta=0.5, mu=4.0, epsilon=radius, n_samples_init=start, stream_speed=10)


def find_centres(name: Name, points: Floats, least: int, most: int, k: int, seed: int) -> Floats:
    """Centres (between `least` and `most`, D) of the newest of points (n, D) in order; none, (0, D), where the
    clusterer finds fewer than the least, or the points are fewer. Of more, those of most people are kept."""
    newest = points[-NEWEST:]
    none = np.zeros((0, points.shape[1]))
    if len(newest) < max(2, least):
        return none
    clusterer = make(name, k, newest, seed)
    clusterer.learn_many(newest)
    try:
        centres = clusterer.centre_matrix
    except ValueError:
        return none
    count = np.bincount(nearest(points, centres)[0], minlength=len(centres))
    kept = np.argsort(-count, kind="stable")[:most]
    kept = kept[count[kept] > 0]
    return centres[kept] if len(kept) >= least else none


def _learn_each(model: Any, rows: Floats) -> None:
    """ValueError unless rows are a matrix (n, D)."""
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2:
        raise ValueError(f"expected a matrix, got shape {rows.shape}")
    for row in rows.tolist():
        model.learn_one(dict(enumerate(row)))


def _heaviest_first(clusters: list[tuple[float, dict[Any, float]]]) -> Floats:
    """Centres (k, D) of clusters, given with their weights; ValueError where there are none."""
    order = sorted(range(len(clusters)), key=lambda i: (-clusters[i][0], i))
    return _matrix([clusters[i][1] for i in order])


def _matrix(centres: list[dict[Any, float]]) -> Floats:
    """Centres (k, D); columns by the names of the first. ValueError where there is none."""
    if not centres:
        raise ValueError("no centres yet")
    return np.array([[centre.get(name, 0.0) for name in centres[0]] for centre in centres], np.float64)


def _gapless(micro: dict[int, Any]) -> dict[int, Any]:
    """Numbered from 0, as River takes them to be."""
    return micro if not micro or next(reversed(micro)) == len(micro) - 1 else dict(enumerate(micro.values()))


def _best_kmeans(points: Floats, k: int, seed: int) -> Floats:
    """Of a few k-means the centres (k, D) with the least error."""
    tried: list[tuple[float, Floats]] = []
    for attempt in range(KMEANS_STARTS):
        centres = lloyd(points, plus_plus(points, k, KMEANS_STARTS * seed + attempt), 50)
        tried.append((_error(points, centres), centres))
    return min(tried, key=lambda pair: pair[0])[1]


def _error(points: Floats, centres: Floats) -> float:
    """Sum of squared distances."""
    return float(np.cumsum(nearest(points, centres)[2])[-1])


def _mean_distance(points: Floats) -> float:
    """Of points (n, D) to their mean; 1 where all are equal."""
    middle: NDArray[np.float64] = np.cumsum(points, axis=0)[-1] / len(points)
    away = float(np.cumsum(np.sqrt(nearest(points, middle[None])[2]))[-1]) / len(points)
    return away if away > 0 else 1.0
