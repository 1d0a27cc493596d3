"""Rows of `training-rows` in log order -> numbered versions: a fold, however the log is cut into calls."""

from __future__ import annotations

from collections import deque

import msgspec
import numpy as np

from online_models.encoder import Encoder
from online_models.kmeans import KMeans
from online_models.nearest import Floats, nearest
from online_models.obey import offered, promoted, restored
from online_models.orders import Answer, Order
from online_models.refit import means, refit
from online_models.rows import ROW, Rows
from online_models.scaler import fit
from online_models.version import WINDOWS, Space, Version

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
    candidate: bytes = b""  # an encoder that was offered


class Learner:
    """Holds the trailing window and River's k-means between versions."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.version: Version | None = None
        self._width = len(params.names) + params.ratios
        self._window: deque[Floats] = deque(maxlen=params.window)
        self._kmeans = KMeans(n_clusters=params.k, seed=params.seed, warm_up=1)
        self._candidate: Encoder | None = None
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
        learner._candidate = Encoder(state.candidate) if state.candidate else None
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
        if order.order == "candidate":
            found = offered(order, self.params.names, self.params.ratios)
            if isinstance(found, str):
                return None, self._answer(order, offset, refused=found)
            self._candidate = found
            return None, self._answer(order, offset, led_to="it is embedded with from the next version on")
        if self.version is None:
            return None, self._answer(order, offset, refused="there is no model version yet")
        if order.order == "promote":
            made = promoted(self.version, np.stack(self._window), order, self._candidate, self.params.seed)
        else:
            made = restored(self.version, order)
        if isinstance(made, str):
            return None, self._answer(order, offset, refused=made)
        self._adopt(made, offset + 1)
        return self.version, self._answer(order, offset, led_to=f"version {self.version.number}")

    def _answer(self, order: Order, offset: int, *, refused: str = "", led_to: str = "") -> Answer:
        number = self.version.number if self.version else 0
        return Answer(order.request_id, order.order, not refused, refused or led_to, number, offset)

    def _adopt(self, made: Version, learned_to: int) -> None:
        """Go on with a version as if it had been learned."""
        assert self.version is not None
        lines = made.place(raw := np.stack(self._window), made.scaler.transform(raw))
        self._kmeans = KMeans(n_clusters=len(made.ids), seed=self.params.seed, warm_up=1)
        self._kmeans.centre_matrix = made.centres
        self._kmeans._count = np.bincount(nearest(lines, made.centres)[0], minlength=len(made.ids)).astype(np.float64)
        number = self.version.number
        made = msgspec.structs.replace(made, number=number + 1, parent=number, learned_to=learned_to, checksum="")
        self.version = msgspec.structs.replace(made, state=self._state())
        self._since = 0

    def _state(self) -> bytes:
        raw, candidate = np.stack(self._window), self._candidate
        kmeans = self._kmeans
        return msgspec.msgpack.encode(
            _State(
                raw.astype("<f8").tobytes(), kmeans._count.tolist(), kmeans._recent.tolist(),
                b"" if candidate is None else candidate.data,
            )
        )  # fmt: skip

    def _take(self, raw: Floats) -> None:
        """Rows that no version falls between."""
        self._window.extend(raw)
        if self.version is not None:
            self._kmeans.learn_many(self.version.place(raw, self.version.scaler.transform(raw)))

    def _due(self) -> bool:
        params = self.params
        if self.version is None:
            return self._rows >= params.first_rows
        return self._since >= params.every_rows or (
            self._since >= params.every_rows * LEAST and self._time - self.version.event_time >= params.every_ms
        )

    def _publish(self, learned_to: int) -> Version:
        params, raw, before = self.params, np.stack(self._window), self.version
        scaler = fit(raw, params.ratios)
        features = lines = scaler.transform(raw)
        encoder, profile = self._candidate, None
        space: Space = WINDOWS
        if before is not None:
            space = before.space
            # one that was offered is not in force where segments are made of another
            encoder = before.encoder if space == "embedding" else self._candidate or before.encoder
            lines = msgspec.structs.replace(before, encoder=encoder).place(raw, features)
            profile = before.profile
        if before is None:
            start = KMeans(n_clusters=params.k, seed=params.seed, warm_up=len(lines))
            start.learn_many(lines)
            centres = start.centre_matrix
            self._kmeans._count, self._kmeans._recent = start._count, start._recent
        else:
            was = self._kmeans.predict_many(before.place(raw, before.scaler.transform(raw)))
            centres = refit(lines, was, self._kmeans.centre_matrix, params.seed + before.number)
        self._kmeans.centre_matrix = centres
        label, _, distance, _ = nearest(lines, centres)
        share = np.bincount(label, minlength=len(centres)) / len(label)
        self.version = Version(
            number=1 if before is None else before.number + 1, names=params.names, ratios=params.ratios,
            scaler=scaler, ids=list(range(params.k)) if before is None else before.ids,
            next_id=params.k if before is None else before.next_id, centre_bytes=centres.astype("<f8").tobytes(),
            profile_bytes=means(features, label, centres if profile is None else profile).astype("<f8").tobytes(),
            weights=share.tolist(), learned_to=learned_to, hysteresis=params.hysteresis, space=space, encoder=encoder,
            rows=self._rows, event_time=self._time, parent=0 if before is None else before.number,
            error=float(np.cumsum(distance)[-1]) / len(distance), state=self._state(),
        )  # fmt: skip
        self._since = 0
        return self.version
