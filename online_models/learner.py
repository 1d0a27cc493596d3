"""Rows of `training-rows` in log order -> numbered versions: a fold, however the log is cut into calls."""

from __future__ import annotations

from collections import deque

import msgspec
import numpy as np

from online_models.kmeans import KMeans
from online_models.nearest import Floats, nearest
from online_models.orders import Answer, Order
from online_models.refit import refit
from online_models.rows import ROW, Rows
from online_models.scaler import fit
from online_models.version import Version

LEAST = 0.1  # share of every_rows below which time alone makes no version: a replay of a month is no flood of them


class Params(msgspec.Struct, frozen=True):
    k: int
    first_rows: int
    every_rows: int
    every_ms: int
    window: int
    seed: int
    ratios: int
    names: list[str]
    hysteresis: float = 0.0


class _State(msgspec.Struct):
    window: bytes  # raw rows, newest last
    count: list[float]
    recent: list[float]


class Learner:
    """Holds the trailing window and River's k-means between versions."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.version: Version | None = None
        self._width = len(params.names) + params.ratios
        self._window: deque[Floats] = deque(maxlen=params.window)
        self._kmeans = KMeans(n_clusters=params.k, seed=params.seed, warm_up=1)
        self._since = 0  # rows since the last version
        self._rows = 0
        self._time = 0

    @classmethod
    def start(cls, params: Params) -> Learner:
        return cls(params)

    @classmethod
    def resume(cls, version: Version, params: Params) -> Learner:
        """Go on from a version that carries its state: as if it had never stopped."""
        learner = cls(params)
        state = msgspec.msgpack.decode(version.state, type=_State)
        learner._window.extend(np.frombuffer(state.window, "<f8").reshape(-1, learner._width).astype(np.float64))
        learner._rows, learner._time, learner.version = version.rows, version.event_time, version
        learner._kmeans.centre_matrix = version.centres
        learner._kmeans._count, learner._kmeans._recent = np.array(state.count), np.array(state.recent)
        return learner

    def learn(self, rows: Rows) -> list[Version]:
        """Apply rows in log order; the versions that fall due, in order."""
        rows = rows.take(rows.kind == ROW)
        found, start = [], 0
        for i, at in enumerate(rows.now.tolist()):
            self._since += 1
            self._rows += 1
            self._time = max(self._time, at)
            if self._due():
                self._take(rows.raw[start : i + 1])
                found.append(self._publish(int(rows.offset[i]) + 1))
                start = i + 1
        self._take(rows.raw[start:])
        return found

    def obey(self, order: Order, offset: int) -> tuple[Version | None, Answer]:
        """Carry out an order at its place in the log; the version that it led to, None where there is none."""
        raise NotImplementedError

    def _take(self, raw: Floats) -> None:
        """Rows that no version falls between."""
        self._window.extend(raw)
        if self.version is not None:
            self._kmeans.learn_many(self.version.scaler.transform(raw))

    def _due(self) -> bool:
        params = self.params
        if self.version is None:
            return self._rows >= params.first_rows
        return self._since >= params.every_rows or (
            self._since >= params.every_rows * LEAST and self._time - self.version.event_time >= params.every_ms
        )

    def _publish(self, learned_to: int) -> Version:
        params, raw = self.params, np.stack(self._window)
        scaler = fit(raw, params.ratios)
        features = scaler.transform(raw)
        if self.version is None:
            start = KMeans(n_clusters=params.k, seed=params.seed, warm_up=len(features))
            start.learn_many(features)
            centres = start.centre_matrix
            self._kmeans._count, self._kmeans._recent = start._count, start._recent
        else:
            before = self._kmeans.predict_many(self.version.scaler.transform(raw))
            centres = refit(features, before, self._kmeans.centre_matrix, params.seed + self.version.number)
        self._kmeans.centre_matrix = centres
        label, _, distance, _ = nearest(features, centres)
        share = np.bincount(label, minlength=params.k) / len(label)
        state = _State(raw.astype("<f8").tobytes(), self._kmeans._count.tolist(), self._kmeans._recent.tolist())
        self.version = Version(
            number=1 if self.version is None else self.version.number + 1, names=params.names, ratios=params.ratios,
            scaler=scaler, ids=list(range(params.k)), next_id=params.k, centre_bytes=centres.astype("<f8").tobytes(),
            profile_bytes=centres.astype("<f8").tobytes(), weights=share.tolist(), learned_to=learned_to,
            hysteresis=params.hysteresis,
            rows=self._rows, event_time=self._time, parent=0 if self.version is None else self.version.number,
            error=float(np.cumsum(distance)[-1]) / len(distance), state=msgspec.msgpack.encode(state),
        )  # fmt: skip
        self._since = 0
        return self.version
