"""Rows of `training-rows` in log order -> numbered versions: a fold, however the log is cut into calls."""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.clustering import proposals as choice
from online_models.clustering import river_clusterers as segmenter
from online_models.clustering import scaler
from online_models.clustering.kmeans import KMeans, lloyd
from online_models.clustering.refit import WARM, means
from online_models.clustering.river_clusterers import Name
from online_models.clustering.scaler import Scaler
from online_models.clustering.split_merge import Scene, Segments, Standing, Structure, named
from online_models.distances import Floats, nearest
from online_models.encoder.encoder import Encoder
from online_models.evaluation.scoring import mean
from online_models.holdout import held_out
from online_models.learner.control_effects import offered, promoted, restored
from online_models.learner.control_messages import Answer, Order
from online_models.learner.panel import DAY, Kept, Panel
from online_models.learner.space_change import described
from online_models.lineage import People, tell
from online_models.prediction import first_day_learner as young_learner
from online_models.prediction import propensity_learner
from online_models.prediction.first_day_learner import YoungLearner
from online_models.prediction.propensity_learner import PropensityLearner
from online_models.training_rows import ROW, Ints, Rows, join
from online_models.version import Version, index

BACK = 0.3  # share of the people of a version that have to be there for the next one, or rows of a week
LEAST = 0.1  # share of every_rows below which time alone makes no version: a replay of a month is no flood of them
REACH = 6 * DAY  # rows that go back so far are those of a week, nearly: all that is looked back for
BLOCK = 4_096  # records that are folded at a time


class Params(msgspec.Struct, frozen=True):
    k_least: int  # segments; as k_most: their number is fixed
    k_most: int
    first_rows: int
    every_rows: int
    every_ms: int
    window: int  # people
    seed: int
    ratios: int
    names: list[str]
    hysteresis: float = 0.0
    memory: list[float] = []  # (F,) days that each feature looks back; empty: not known
    half_life: float = 129_600.0  # s: with which the scaler follows the people, for it moves everybody
    clip: float = scaler.CLIP
    floor: float = 0.002  # of the k-means' steps
    segmenter: Name = "kmeans"


class _State(msgspec.Struct):
    panel: Kept
    standing: list[Standing]
    young: bytes
    propensity: bytes
    candidate: bytes = b""  # an encoder that was offered


class Learner:
    """Holds the people, and River's k-means between versions."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.version: Version | None = None
        width, memory = len(params.names) + params.ratios, params.memory or [0.0] * len(params.names)
        self._panel = Panel(width, memory, params.window)
        self._structure = Structure(params.k_least, params.k_most)
        self._kmeans = KMeans()  # that of the version
        self._young = YoungLearner(young_learner.Params())
        self._propensity = PropensityLearner(propensity_learner.Params(params.ratios))
        self._candidate: Encoder | None = None
        self._pending: list[Rows] = []
        self._waiting = 0  # pending records
        self._since = 0  # rows since the last version, or since one was put off
        self._people = 0  # that the last version was made from
        self._rows = 0
        self._time = 0

    @classmethod
    def start(cls, params: Params) -> Learner:
        return cls(params)

    @classmethod
    def resume(cls, version: Version, params: Params) -> Learner:
        """Go on from a version that carries its state: as if it had never stopped. ValueError where it has none."""
        learner = cls(params)
        try:
            state = msgspec.msgpack.decode(version.state, type=_State)
        except msgspec.DecodeError as error:
            raise ValueError(f"version {version.number} has no state to go on from: {error}") from None
        learner._panel.restore(state.panel)
        learner._structure.standing = state.standing
        learner._young = YoungLearner.resume(state.young, learner._young.params, version.young)
        learner._propensity = PropensityLearner.resume(state.propensity, learner._propensity.params, version.propensity)
        learner._candidate = Encoder(state.candidate) if state.candidate else None
        learner._rows, learner._time = version.rows, version.event_time
        learner._go_on(version)
        return learner

    def learn(self, rows: Rows) -> list[Version]:
        """Apply records in log order; the versions that fall due, in order."""
        found, start = [], 0
        for i, (kind, now) in enumerate(zip(rows.kind.tolist(), rows.now.tolist(), strict=True)):
            due = False
            self._waiting += 1
            if kind == ROW:
                self._since += 1
                self._rows += 1
                self._time = max(self._time, now)
                due = self._due()
            if due or self._waiting >= BLOCK:
                self._pending.append(rows.take(slice(start, i + 1)))
                start = i + 1
                self._fold()
            if due and self._enough():
                found.append(self._publish(int(rows.offset[i]) + 1))
            elif due:
                self._since = 0
        self._pending.append(rows.take(slice(start, None)))
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
        self._fold()
        if order.order == "promote":
            people = self._panel.raw[self._learned()]
            made = promoted(self.version, people, order, self._candidate)
        else:
            made = restored(self.version, order)
        if isinstance(made, str):
            return None, self._answer(order, offset, refused=made)
        number = self.version.number
        self._panel.age(self._time, self.version.event_time)
        self._structure.standing = []
        made = msgspec.structs.replace(
            made, number=number + 1, parent=number, learned_to=offset + 1, rows=self._rows, event_time=self._time,
            checksum="",
        )  # fmt: skip
        if made.encoder == self._candidate:
            self._candidate = None
        self._panel.judge(made)
        self._go_on(self._whole(made))
        return self.version, self._answer(order, offset, led_to=f"version {self.version.number}")

    def _answer(self, order: Order, offset: int, *, refused: str = "", led_to: str = "") -> Answer:
        number = self.version.number if self.version else 0
        return Answer(order.request_id, order.order, not refused, refused or led_to, number, offset)

    def _due(self) -> bool:
        params = self.params
        if self.version is None:
            return self._rows >= params.first_rows
        return self._since >= params.every_rows or (
            self._since >= params.every_rows * LEAST and self._time - self.version.event_time >= params.every_ms
        )

    def _enough(self) -> bool:
        """Whether the people who are there make a version: after a silence of days they come back one by one."""
        lately = self._panel.now[self._panel.active(self._time)]
        week = len(lately) > 0 and int(lately.min()) <= self._time - REACH
        return self.version is None or week or len(self._learned()) >= BACK * self._people

    def _fold(self) -> None:
        """Pending records into all that learns from them; cut by the log alone, however they came."""
        if not self._pending:
            return
        records = join(self._pending)
        self._pending, self._waiting = [], 0
        self._propensity.learn(records)
        if self.version is not None:
            self._young.learn(records, self.version)
        rows = records.take(records.kind == ROW)
        self._panel.take(rows, self.version)
        if len(self._panel) > 2 * self._panel.most:
            self._panel.trim(self._time)
        if self.version is not None:
            raw = rows.raw[~held_out(rows.user)]
            self._kmeans.learn_many(self.version.place(raw, self.version.scaler.transform(raw)))

    def _learned(self) -> Ints:
        """Which of the panel's people centres and scalers are made from."""
        active = self._panel.active(self._time)
        found = np.flatnonzero(active & ~self._panel.held_out)
        return found if len(found) else np.flatnonzero(active)

    def _publish(self, learned_to: int) -> Version:
        panel, parent = self._panel, self.version
        panel.age(self._time, self._time if parent is None else parent.event_time)
        active, learned = panel.active(self._time), self._learned()
        fitted = self._scaler(panel.raw[learned])
        lines = fitted.transform(panel.raw)
        if parent is not None:
            lines = parent.place(panel.raw, lines)
        held = np.flatnonzero(active & panel.held_out)
        scene = Scene(lines, learned, held, active, panel.segment.copy(), panel.before())
        bare = self._version(self._segments(scene), fitted, learned_to)
        panel.judge(bare)
        people = People(scene.then, scene.was, panel.segment, active)
        lineage = tell(people, parent.ids if parent else [], bare.ids)
        version = self._whole(msgspec.structs.replace(self._described(bare, scene), lineage=lineage))
        self._go_on(version)
        return version

    def _scaler(self, raw: Floats) -> Scaler:
        """For the people of now, but not all of the way."""
        fitted = scaler.fit(raw, self.params.ratios, self.params.clip)
        fitted = scaler.weigh(fitted, raw, self._panel.pairs, self._panel.change)
        if self.version is None:
            return fitted
        passed = 1.0 - 0.5 ** ((self._time - self.version.event_time) / (1_000 * self.params.half_life))
        return scaler.blend(self.version.scaler, fitted, max(passed, self._since / self._rows))

    def _segments(self, scene: Scene) -> Segments:
        """The set of segments of the next version."""
        params, parent, lines = self.params, self.version, scene.lines[scene.learned]
        seed = params.seed + 1_000 * (0 if parent is None else parent.number)
        kmeans, centres = params.segmenter == "kmeans", lines[:0]
        if not kmeans:
            newest = lines[np.argsort(self._panel.now[scene.learned], kind="stable")]
            k = params.k_most if parent is None else len(parent.ids)
            centres = segmenter.found(params.segmenter, newest, params.k_least, params.k_most, k, params.seed)
        if parent is None:
            if not len(centres):
                most = params.k_most if kmeans else params.k_least
                centres = choice.first(lines, scene.lines[scene.held], params.k_least, most, seed)
            return Segments(centres, list(range(len(centres))), len(centres))
        if len(centres):
            return named(Segments(parent.centres, parent.ids, parent.next_id), centres, scene)
        carried = self._carried(scene, parent)
        if not kmeans:  # nothing was found: the segments stay where their people are
            return Segments(carried, parent.ids, parent.next_id)
        moved = lloyd(lines, carried, WARM)
        return self._structure.revise(Segments(moved, parent.ids, parent.next_id), scene, self._time, seed)

    def _carried(self, scene: Scene, parent: Version) -> Floats:
        """The centres as the k-means has them, each moved as its people are by the new scaler."""
        before = parent.place(self._panel.raw, parent.scaler.transform(self._panel.raw))
        people = scene.learned
        was = index(parent.ids, scene.was[people])
        moved, _ = means((scene.lines - before)[people], was, len(parent.ids))
        return self._kmeans.centre_matrix + moved

    def _version(self, found: Segments, fitted: Scaler, learned_to: int) -> Version:
        parent, params = self.version, self.params
        space, encoder = ("windows", None) if parent is None else (parent.space, parent.encoder)
        if space == "windows":  # one that was offered is not in force where segments are made of another
            encoder = self._candidate or encoder
            self._candidate = None
        return Version(
            number=1 if parent is None else parent.number + 1, names=params.names, ratios=params.ratios,
            scaler=fitted, ids=found.ids, next_id=found.next_id, centre_bytes=found.centres.astype("<f8").tobytes(),
            profile_bytes=b"", weights=[], learned_to=learned_to, rows=self._rows, event_time=self._time,
            parent=0 if parent is None else parent.number, error=0.0, hysteresis=params.hysteresis, space=space,
            encoder=encoder,
        )  # fmt: skip

    def _described(self, version: Version, scene: Scene) -> Version:
        """With what those are like whom it was made from."""
        features = version.scaler.transform(self._panel.raw[scene.learned])
        mine = index(version.ids, self._panel.segment[scene.learned])
        distance = nearest(scene.lines[scene.learned], version.centres)[2]
        anybody, _ = means(features, np.zeros(len(features), np.int64), 1)
        return described(version, features, mine, distance, anybody[0])

    def _quality(self, version: Version) -> dict[str, float]:
        """What a version is worth to people who were held out; to all where there are none."""
        active = self._panel.active(self._time)
        held = active & self._panel.held_out
        raw = self._panel.raw[held if held.any() else active]
        lines = version.place(raw, version.scaler.transform(raw))
        judged = choice.judge(lines[:0], lines, version.centres)
        return {
            "silhouette": mean(judged.silhouette), "error": mean(judged.distance),
            "people": float(len(raw)), "segments": float(len(version.ids)),
        }  # fmt: skip

    def _whole(self, version: Version) -> Version:
        """With what it is worth, what is foretold, and the state to go on from."""
        young, propensity = self._young.publish(version), self._propensity.publish()
        state = _State(
            self._panel.keep(), self._structure.standing, self._young.state(), self._propensity.state(),
            b"" if self._candidate is None else self._candidate.data,
        )  # fmt: skip
        return msgspec.structs.replace(
            version, young=young, propensity=propensity, state=msgspec.msgpack.encode(state),
            quality=self._quality(version) | self._young.figures() | self._propensity.figures(),
        )  # fmt: skip

    def _go_on(self, version: Version) -> None:
        self.version, self._since, self._people = version, 0, len(self._learned())
        self._kmeans = KMeans.going_on(version.centres, np.array(version.weights) * self._people, self.params.floor)
