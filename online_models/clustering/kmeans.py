"""River's incremental k-means, with what it lacks: a start, convergence, and repair of dead centres.

In its fixed-step mode (step="fixed") it gives River's own results. In its counting mode a centre moves by
max(1/n, floor) of the way, starts come from k-means++ over the first rows, and a centre that hardly anybody
belongs to is put on the next row that no centre lies on.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from river import cluster

from online_models.distances import Floats, distances, nearest

STARTS = 4  # k-means++ starts, of which the best one counts
RECENT = 0.999  # of the decayed counts, what each row leaves


class KMeans(cluster.KMeans):
    """Incremental k-means (MacQueen 1967; k-means++ start: Arthur and Vassilvitskii 2007).

    Parameters are River's (halflife, mu, sigma and p matter in the fixed-step mode alone), and:

    - step: "count" or "fixed"; ValueError for another one
    - floor: the least step, as a share of the way
    - warm_up: rows before the start
    - dead: share of the average weight below which a centre is repaired; 0: never

    A feature that a row lacks is 0 there. Matrices (n, F) have a column for each feature that was learned from so far,
    in the order in which they came (those of one row by name); where there is none yet they are named 0 to F - 1. The
    counting mode does not depend on PYTHONHASHSEED; the fixed one, as River's, does where names are text.

    >>> model = KMeans(n_clusters=2, warm_up=4, seed=1)
    >>> for x in ({"a": 0.0}, {"a": 0.1}, {"a": 9.0}, {"a": 9.1}):
    ...     model.learn_one(x)
    >>> model.predict_one({"a": 0.05}) == model.predict_one({"a": 0.0}) != model.predict_one({"a": 9.05})
    True
    """

    def __init__(
        self,
        n_clusters: int = 5,
        halflife: float = 0.5,
        mu: float = 0,
        sigma: float = 1,
        p: int = 2,
        seed: int | None = None,
        step: str = "count",
        floor: float = 0.002,
        warm_up: int = 100,
        dead: float = 0.02,
    ) -> None:
        if step not in ("count", "fixed"):
            raise ValueError('step: "count" or "fixed"')
        self.step = step
        super().__init__(n_clusters=n_clusters, halflife=halflife, mu=mu, sigma=sigma, p=p, seed=seed)
        self.floor, self.warm_up, self.dead = floor, warm_up, dead
        self._names: list[Any] = []  # of the columns
        self._waiting_rows: list[Floats] = []  # rows before the start
        self._centre_matrix: Floats | None = None  # (k, F)
        self._count = np.zeros(n_clusters)
        self._recent = np.ones(n_clusters)  # decayed counts, for repair

    @classmethod
    def from_centres(cls, centres: Floats, count: Floats, floor: float) -> KMeans:
        """Go on from centres (k, F) and the number of rows (k,) that each was made from; none is repaired."""
        model = cls(n_clusters=len(centres), floor=floor, dead=0.0)
        model.centre_matrix = centres
        model._count = np.maximum(count, 1.0)
        return model

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"n_clusters": 5, "warm_up": 20}
        yield {"n_clusters": 5, "step": "fixed"}

    @property
    def _mutable_attributes(self) -> set[str]:
        return {"halflife", "floor", "dead"}

    @property
    def started(self) -> bool:
        """Whether there are centres, in the counting mode."""
        return self._centre_matrix is not None

    @property
    def centers(self) -> Mapping[int, Mapping[Any, float]]:
        """Position of each centre by feature, as River's; empty before the start."""
        if self.step == "fixed":
            return self._centers
        positions = [] if self._centre_matrix is None else self._centre_matrix.tolist()
        return {k: dict(zip(self._names, position, strict=True)) for k, position in enumerate(positions)}

    @centers.setter
    def centers(self, centers: Mapping[int, Mapping[Any, float]]) -> None:
        self._centers = centers  # River's own, which the fixed-step mode moves

    def learn_one(self, x: Mapping[Any, float]) -> None:
        if self.step == "fixed":
            super().learn_one(x)  # by way of learn_predict_one
            return
        self._add_columns(x)
        self._learn_rows(self._row(x)[None])

    def learn_predict_one(self, x: Mapping[Any, float]) -> int:
        """Learn x; the centre that was the nearest before, as River's."""
        if self.step == "fixed":
            self._add_columns(x)
            nearest_centre: int = super().learn_predict_one(x)
            return nearest_centre
        label = self.predict_one(x)
        self.learn_one(x)
        return label

    def predict_one(self, x: Mapping[Any, float]) -> int:
        """The nearest centre; 0 before the start. A feature never learned from is as far from all centres."""
        if self.step == "fixed":
            label: int = super().predict_one(x)
            return label
        return 0 if self._centre_matrix is None else int(nearest(self._row(x)[None], self._centre_matrix)[0][0])

    def learn_many(self, rows: Floats) -> None:
        """learn_one of each row (n, F) in order; ValueError where F is not that of the features."""
        rows = self._columns(rows)
        if not self._names:
            self._names = list(range(rows.shape[1]))
        if self.step == "fixed":
            for x in self._rows(rows):
                super().learn_one(x)
        else:
            self._learn_rows(rows)

    def _add_columns(self, x: Iterable[Any]) -> None:
        """A column for each new feature, by name: sets have an order of their own in each process."""
        new = sorted(set(x) - set(self._names), key=lambda name: (str(name), type(name).__name__))
        if new:
            self._names += new
            self._waiting_rows = [np.pad(row, (0, len(new))) for row in self._waiting_rows]
            if self._centre_matrix is not None:
                self._centre_matrix = np.pad(self._centre_matrix, ((0, 0), (0, len(new))))

    def _row(self, x: Mapping[Any, float]) -> Floats:
        return np.array([x.get(name, 0.0) for name in self._names], np.float64)

    def _rows(self, rows: Floats) -> Iterator[dict[Any, float]]:
        names = self._names or range(rows.shape[1])
        return (dict(zip(names, row, strict=True)) for row in rows.tolist())

    def _columns(self, rows: Floats) -> Floats:
        rows = np.asarray(rows, np.float64)
        if rows.ndim != 2 or (self._names and rows.shape[1] != len(self._names)):
            raise ValueError(f"expected rows of {len(self._names) or 'F'} columns, got shape {rows.shape}")
        return rows

    def _learn_rows(self, rows: Floats) -> None:
        i = 0
        while self._centre_matrix is None and i < len(rows):
            self._waiting_rows.append(rows[i].copy())
            i += 1
            if len(self._waiting_rows) >= max(self.warm_up, self.n_clusters):
                self._start()
        for row in rows[i:]:
            self._learn(row)

    def _start(self) -> None:
        rows = np.stack(self._waiting_rows)
        self._waiting_rows = []
        best = None
        for attempt in range(STARTS):
            centres = lloyd(rows, plus_plus(rows, self.n_clusters, (self.seed or 0) + attempt), 50)
            label, _, distance, _ = nearest(rows, centres)
            error = float(np.cumsum(distance)[-1])
            if best is None or error < best[0]:
                best = (error, centres, label)
        assert best is not None
        self._centre_matrix = best[1]
        self._count = np.bincount(best[2], minlength=self.n_clusters).astype(np.float64)
        self._recent = self._count / max(1.0, len(rows) / 100.0)

    def _learn(self, row: Floats) -> None:
        assert self._centre_matrix is not None
        difference = row - self._centre_matrix
        distance = np.einsum("kf,kf->k", difference, difference)  # one shape, one order of sums
        k = int(distance.argmin())
        self._count[k] += 1.0
        self._centre_matrix[k] += max(1.0 / self._count[k], self.floor) * difference[k]
        self._recent *= RECENT
        self._recent[k] += 1.0
        weakest = int(self._recent.argmin())
        average = float(np.add.reduce(self._recent)) / len(self._recent)
        if self._recent[weakest] < self.dead * average and weakest != k and distance[k] > 0:
            self._centre_matrix[weakest] = row  # nobody's centre goes to somebody who has none to himself
            self._count[weakest] = 1.0
            self._recent[weakest] = average

    @property
    def centre_matrix(self) -> Floats:
        """Centres (k, F); ValueError before the start."""
        if self._centre_matrix is None:
            raise ValueError("no centres yet")
        return self._centre_matrix

    @centre_matrix.setter
    def centre_matrix(self, centres: Floats) -> None:
        self._centre_matrix = np.array(self._columns(centres))
        self._names = self._names or list(range(self._centre_matrix.shape[1]))


def plus_plus(rows: Floats, k: int, seed: int) -> Floats:
    """Centres (k, D) of the k-means++ start (Arthur and Vassilvitskii 2007) for rows (n, D), n >= 1.

    Each next centre is a row drawn by its squared distance to the nearest centre so far. The same arguments give the
    same centres.
    """
    draw = random.Random(seed)
    centres = [rows[draw.randrange(len(rows))]]
    distance = np.full(len(rows), np.inf)
    for _ in range(1, k):
        np.minimum(distance, distances(rows, centres[-1][None])[0], out=distance)
        cumulative = np.cumsum(distance)
        if cumulative[-1] > 0:
            drawn = int(np.searchsorted(cumulative, draw.random() * cumulative[-1], "right"))
        else:
            drawn = draw.randrange(len(rows))  # fewer distinct rows than centres
        centres.append(rows[min(drawn, len(rows) - 1)])
    return np.stack(centres)


def lloyd(rows: Floats, centres: Floats, rounds: int) -> Floats:
    """Centres (k, D) for rows (n, D) after at most so many of Lloyd's rounds, fewer where nothing moves any more.

    A centre without rows goes to the row that is farthest from its centre.

    >>> lloyd(np.array([[0.0], [1.0], [9.0]]), np.array([[0.0], [2.0]]), 10)
    array([[0.5],
           [9. ]])
    """
    centres = centres.copy()
    for _ in range(rounds):
        label, _, distance, _ = nearest(rows, centres)
        order = np.argsort(label, kind="stable")
        count = np.bincount(label, minlength=len(centres))
        end = np.cumsum(count)
        moved = centres.copy()
        running = np.cumsum(rows[order], axis=0)
        for k in range(len(centres)):
            if count[k]:
                before = running[end[k] - count[k] - 1] if end[k] > count[k] else 0.0
                moved[k] = (running[end[k] - 1] - before) / count[k]
            else:
                farthest = int(distance.argmax())
                moved[k] = rows[farthest]
                distance[farthest] = 0.0
        if (moved == centres).all():
            break
        centres = moved
    return centres
