"""Rows of `training-rows` in log order -> numbered versions: a fold, however the log is cut into calls."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models import choice, scaler as scaling
from online_models.lineage import Lineage, tell
from online_models.kmeans import lloyd
from online_models.nearest import Floats, distances, nearest
from online_models.panel import Kept, Panel
from online_models.rows import ROW, Ints, Rows, join
from online_models.scaler import Scaler
from online_models.version import Version, assign, index

LEAST = 0.1  # share of every_rows below which time alone makes no version: a replay of a month is no flood of them
HOUR = 3_600_000
import os
def _e(n, d): return float(os.environ.get(n, d))
TAU = _e("TAU", 2 * 24) * HOUR
WORTH = _e("WORTH", .036); BAND = _e("BAND", .006); SWAPGAIN = _e("SWAPGAIN", .012); SURE = _e("SURE", 0.0); PATIENCE = _e("PATIENCE", 12) * HOUR
COLDGAIN = _e("COLDGAIN", .012)
GONE = _e("GONE", .012)
BUDGET_DAY = _e("BDAY", 99); 
POWER = 2


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
    k_most: int = 0


class _Streak(msgspec.Struct):
    event: str
    segment: int
    since: int
    times: int


class _State(msgspec.Struct):
    panel: Kept
    streaks: list[_Streak]


class Learner:
    """Holds the trailing window and River's k-means between versions."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.version: Version | None = None
        self._width = len(params.names) + params.ratios
        self._panel = Panel(self._width, len(params.names), params.window)
        self._streaks: list[_Streak] = []
        self._pending: list[Rows] = []
        self._since = 0  # rows since the last version
        self._rows = 0
        self._time = 0
        self.log: list[str] = []

    @classmethod
    def start(cls, params: Params) -> Learner:
        return cls(params)

    @classmethod
    def resume(cls, version: Version, params: Params) -> Learner:
        """Go on from a version that carries its state: as if it had never stopped."""
        learner = cls(params)
        state = msgspec.msgpack.decode(version.state, type=_State)
        learner._panel = Panel.of(state.panel, learner._width, len(params.names), params.window)
        learner._streaks = state.streaks
        learner._rows, learner._time, learner.version = version.rows, version.event_time, version
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
                self._pending.append(rows.take(slice(start, i + 1)))
                found.append(self._publish(int(rows.offset[i]) + 1))
                start = i + 1
        self._pending.append(rows.take(slice(start, None)))
        return found

    def _due(self) -> bool:
        params = self.params
        if self.version is None:
            return self._rows >= params.first_rows
        return self._since >= params.every_rows or (
            self._since >= params.every_rows * LEAST and self._time - self.version.event_time >= params.every_ms
        )

    def _publish(self, learned_to: int) -> Version:
        params, panel, parent = self.params, self._panel, self.version
        panel.take(join(self._pending), parent)
        self._pending = []
        panel.age(self._time, self._time if parent is None else parent.event_time)
        active = panel.active(self._time)
        held = panel.held_out
        learn, judge = np.flatnonzero(active & ~held), np.flatnonzero(active & held)
        if len(judge) < 2: judge = learn
        scaler = self._scaler(panel.raw[active])
        lines = scaler.transform(panel.raw)
        most = max(params.k, params.k_most)
        number = 1 if parent is None else parent.number + 1
        was = panel.segment.copy()
        if parent is None:
            centres = choice.first(lines[learn], lines[judge], params.k, most, params.seed)
            ids, next_id = list(range(len(centres))), len(centres)
        else:
            still = self._carried(lines, parent, was)
            centres = lloyd(lines[learn], still, 6)
            ids, next_id = list(parent.ids), parent.next_id
            centres, ids, next_id = self._structure(lines[learn], lines[judge], centres, ids, next_id, number, most)
        label, _, distance, _ = nearest(lines[active], centres)
        share = np.bincount(label, minlength=len(centres)) / len(label)
        sil = choice.mean(choice.silhouette(lines[judge], centres))
        version = Version(
            number=number, names=params.names, ratios=params.ratios,
            scaler=scaler, ids=ids, next_id=next_id, centre_bytes=centres.astype("<f8").tobytes(),
            profile_bytes=centres.astype("<f8").tobytes(), weights=share.tolist(), learned_to=learned_to,
            hysteresis=params.hysteresis,
            rows=self._rows, event_time=self._time, parent=0 if parent is None else parent.number,
            error=choice.mean(distance), quality={"silhouette": sil, "k": float(len(ids))},
        )  # fmt: skip
        held_at = assign(version, panel.raw, np.arange(len(panel)), was)
        panel.segment = held_at.segment.astype(np.int64)
        lineage = tell(panel, active, was, parent.ids if parent else [], ids)
        state = _State(panel.keep(), self._streaks)
        self.version = msgspec.structs.replace(version, lineage=lineage, state=msgspec.msgpack.encode(state))
        self._since = 0
        return self.version

    def _scaler(self, raw: Floats) -> Scaler:
        fitted = scaling.fit(raw, self.params.ratios)
        fitted = scaling.weigh(fitted, raw, self._panel.pairs, self._panel.change)
        if self.version is None:
            return fitted
        dt = self._time - self.version.event_time
        age = self._time - self._first_time
        share = max(1 - np.exp(-dt / TAU), min(1.0, dt / max(1, age)))
        return scaling.blend(self.version.scaler, fitted, float(share))

    @property
    def _first_time(self) -> int:
        return int(self._panel.now.min()) if len(self._panel) else self._time

    def _carried(self, lines: Floats, parent: Version, was: Ints) -> Floats:
        """The parent's centres, each moved as its people are by the new scaler."""
        old = parent.scaler.transform(self._panel.raw)
        at = index(parent.ids, was)
        out = parent.centres
        for k in range(len(out)):
            mine = at == k
            if mine.any():
                out[k] += np.cumsum((lines - old)[mine], axis=0)[-1] / mine.sum()
        return out

    def _structure(self, learn, judge, centres, ids, next_id, number, most):
        params, time = self.params, self._time
        young = time - self._first_time < 7 * 24 * HOUR
        for round_ in range(3):
            k = len(ids)
            cold = [kk for kk in range(max(params.k, k), min(most, k + int(_e('COLD', 1))) + 1)] if round_ == 0 else []
            found = choice.proposals(learn, judge, centres, params.k, most, params.seed + 1000 * number, WORTH, cold)
            colds = sorted((p for p in found if p.event == "cold"), key=lambda p: -p.gain + WORTH * len(p.centres))[:1]
            found = [p for p in found if p.event != "cold"] + colds
            label = nearest(learn, centres)[0]
            size = np.bincount(label, minlength=len(centres)) / len(learn)
            def over(p):
                dk = len(p.centres) - k
                return p.gain - WORTH * dk - (COLDGAIN if p.event == "cold" else SWAPGAIN if p.event == "swap" else BAND)
            good = [p for p in found if over(p) > SURE * p.error or (p.event == "merge" and size[p.at] < GONE)]
            if round_ == 0:
                now = {(p.event, ids[p.at]) for p in good}
                kept = [s for s in self._streaks if (s.event, s.segment) in now]
                for s in kept: s.times += 1
                have = {(s.event, s.segment) for s in kept}
                self._streaks = kept + [_Streak(*one, time, 1) for one in sorted(now - have)]
            ripe = {(s.event, s.segment) for s in self._streaks if s.times >= 2 and time - s.since >= PATIENCE}
            chosen = [p for p in good if (p.event, ids[p.at]) in ripe]
            if os.environ.get("VERBOSE"):
                top = sorted(found, key=lambda p: -over(p))[:4]
                self.log.append(f"{number} k={len(ids)} " + " ".join(f"{p.event}{ids[p.at]}:{over(p):.4f}/{p.error:.4f}" for p in top) + f" ripe {sorted(ripe)}")
            if not chosen: break
            best = max(chosen, key=over)
            self._streaks = [s for s in self._streaks if (s.event, s.segment) != (best.event, ids[best.at])]
            new = []
            origin = best.origin
            if origin is None:
                from scipy.optimize import linear_sum_assignment
                shared = np.zeros((len(ids), len(best.centres))); np.add.at(shared, (label, nearest(learn, best.centres)[0]), 1.0)
                r, c = linear_sum_assignment(shared, maximize=True); origin = np.full(len(best.centres), -1)
                for i, j in zip(r, c):
                    if shared[i, j] >= .3 * max(1, shared[i].sum()) or shared[i, j] >= .5 * shared[:, j].sum(): origin[j] = i
                self._streaks = []
            for o in origin.tolist():
                if o < 0: new.append(next_id); next_id += 1
                else: new.append(ids[o])
            ids, centres = new, best.centres
        return centres, ids, next_id
