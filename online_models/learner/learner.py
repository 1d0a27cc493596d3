"""Rows of `training-rows` in log order -> numbered versions: a fold, however the log is cut into calls."""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.clustering import proposals, river_clusterers, scaler
from online_models.clustering.kmeans import KMeans, lloyd
from online_models.clustering.refit import REFIT_ROUNDS, label_means
from online_models.clustering.scaler import Scaler
from online_models.clustering.split_merge import PendingChange, People, Segments, SplitMerge, with_ids
from online_models.distances import Floats, mean, nearest
from online_models.encoder.encoder import Encoder
from online_models.holdout import in_holdout
from online_models.learner.control_effects import offered_encoder, promoted, rolled_back
from online_models.learner.control_messages import Answer, ControlMessage
from online_models.learner.panel import Panel, PanelState
from online_models.learner.space_change import with_description
from online_models.lineage import Membership, lineage_events
from online_models.prediction import registry
from online_models.prediction.side_model import from_fields, to_fields
from online_models.segment_ids import centre_index
from online_models.training_rows import DAY_MS, SAMPLE_ROW, Ints, TrainingRows, join
from online_models.version import Version

BACK = 0.3  # share of the people of a version that have to be there for the next one, or rows of a week
LEAST_ROWS = 0.1  # share of every_rows below which time alone makes no version: a replay of a month is no flood of them
WEEK = 6 * DAY_MS  # rows that go back so far are those of a week, nearly: all that is looked back for
BLOCK = 4_096  # records that are folded at a time


class LearnerParams(msgspec.Struct, frozen=True):
    """Settings of [learner], and the layout of the features."""

    k_least: int  # segments; as k_most: their number is fixed
    k_most: int
    first_rows: int  # of the first version
    every_rows: int  # of each next one, or
    every_ms: int  # event time
    window: int  # people
    seed: int
    ratios: int  # R
    names: list[str]  # (F,) of the features
    hysteresis: float = 0.0
    memory: list[float] = []  # (F,) days that each feature looks back; empty: not known
    half_life: float = 129_600.0  # s: with which the scaler follows the people, for it moves everybody
    clip: float = scaler.CLIP
    floor: float = 0.002  # of the k-means' steps
    segmenter: river_clusterers.Name = "kmeans"


class _State(msgspec.Struct):
    panel: PanelState
    pending: list[PendingChange] = msgspec.field(name="standing")
    first_day: bytes = msgspec.field(name="young")
    propensity: bytes
    candidate: bytes = b""  # an encoder that was offered
    side_models: dict[str, bytes] | msgspec.UnsetType = msgspec.UNSET  # states without a field of their own


class Learner:
    """Holds the people, and River's k-means between versions."""

    def __init__(self, params: LearnerParams) -> None:
        self.params = params
        self.version: Version | None = None
        width, memory = len(params.names) + params.ratios, params.memory or [0.0] * len(params.names)
        self._panel = Panel(width, memory, params.window)
        self._split_merge = SplitMerge(params.k_least, params.k_most)
        self._kmeans = KMeans()  # that of the version
        self._side_learners = {kind.name: kind.start(params.ratios) for kind in registry.SIDE_MODELS}
        self._candidate: Encoder | None = None
        self._pending: list[TrainingRows] = []
        self._pending_records = 0
        self._rows_since = 0  # the last version, or since one was put off
        self._people = 0  # that the last version was made from
        self._rows = 0
        self._time = 0

    @classmethod
    def start(cls, params: LearnerParams) -> Learner:
        """A learner that begins with the first row of the log."""
        return cls(params)

    @classmethod
    def resume(cls, version: Version, params: LearnerParams) -> Learner:
        """Go on from a version that carries its state: as if it had never stopped. ValueError where it has none."""
        learner = cls(params)
        try:
            state = msgspec.msgpack.decode(version.state, type=_State)
        except msgspec.DecodeError as error:
            raise ValueError(f"version {version.number} has no state to go on from: {error}") from None
        learner._panel.restore(state.panel)
        learner._split_merge.pending = state.pending
        for kind in registry.SIDE_MODELS:
            stored = from_fields(state, kind.name)
            if stored is not None:  # a side model that is newer than the version begins with nothing
                model = version.side_model(kind)
                learner._side_learners[kind.name] = kind.resume(stored, model, params.ratios)
        learner._candidate = Encoder(state.candidate) if state.candidate else None
        learner._rows, learner._time = version.rows, version.event_time
        learner._go_on_from(version)
        return learner

    def learn(self, rows: TrainingRows) -> list[Version]:
        """Apply records in log order; the versions that fall due, in order."""
        versions, start = [], 0
        for i, (kind, now) in enumerate(zip(rows.kind.tolist(), rows.now.tolist(), strict=True)):
            due = False
            self._pending_records += 1
            if kind == SAMPLE_ROW:
                self._rows_since += 1
                self._rows += 1
                self._time = max(self._time, now)
                due = self._due()
            if due or self._pending_records >= BLOCK:
                self._pending.append(rows.take(slice(start, i + 1)))
                start = i + 1
                self._fold()
            if due and self._enough():
                versions.append(self._publish(int(rows.offset[i]) + 1))
            elif due:
                self._rows_since = 0
        self._pending.append(rows.take(slice(start, None)))
        return versions

    def apply_control(self, message: ControlMessage, offset: int) -> tuple[Version | None, Answer]:
        """Carry out a control message at its place in the log; the version that it led to, None where there is none."""
        if message.action == "candidate":
            offered = offered_encoder(message, self.params.names, self.params.ratios)
            if isinstance(offered, str):
                return None, self._answer(message, offset, refused=offered)
            self._candidate = offered
            return None, self._answer(message, offset, led_to="it is embedded with from the next version on")
        if self.version is None:
            return None, self._answer(message, offset, refused="there is no model version yet")
        self._fold()
        if message.action == "promote":
            people = self._panel.raw[self._learned()]
            made = promoted(self.version, people, message, self._candidate)
        else:
            made = rolled_back(self.version, message)
        if isinstance(made, str):
            return None, self._answer(message, offset, refused=made)
        number = self.version.number
        self._panel.advance(self._time, self.version.event_time)
        self._split_merge.pending = []
        made = msgspec.structs.replace(
            made,
            number=number + 1,
            parent=number,
            learned_to=offset + 1,
            rows=self._rows,
            event_time=self._time,
            checksum="",
        )
        if made.encoder == self._candidate:
            self._candidate = None
        self._panel.reassign(made)
        self._go_on_from(self._complete(made))
        return self.version, self._answer(message, offset, led_to=f"version {self.version.number}")

    def _answer(self, message: ControlMessage, offset: int, *, refused: str = "", led_to: str = "") -> Answer:
        number = self.version.number if self.version else 0
        return Answer(message.request_id, message.action, not refused, refused or led_to, number, offset)

    def _due(self) -> bool:
        params = self.params
        if self.version is None:
            return self._rows >= params.first_rows
        if self._rows_since >= params.every_rows:
            return True
        late = self._time - self.version.event_time >= params.every_ms
        return late and self._rows_since >= params.every_rows * LEAST_ROWS

    def _enough(self) -> bool:
        """Whether the people who are there make a version: after a silence of days they come back one by one."""
        times = self._panel.now[self._panel.active(self._time)]
        week = len(times) > 0 and int(times.min()) <= self._time - WEEK
        return self.version is None or week or len(self._learned()) >= BACK * self._people

    def _fold(self) -> None:
        """Pending records into all that learns from them; cut by the log alone, however they came."""
        if not self._pending:
            return
        records = join(self._pending)
        self._pending, self._pending_records = [], 0
        for side_learner in self._side_learners.values():
            side_learner.learn(records, self.version)
        rows = records.take(records.kind == SAMPLE_ROW)
        self._panel.add(rows, self.version)
        if len(self._panel) > 2 * self._panel.most:
            self._panel.trim(self._time)
        if self.version is not None:
            raw = rows.raw[~in_holdout(rows.user)]
            self._kmeans.learn_many(self.version.coordinates(raw, self.version.scaler.transform(raw)))

    def _learned(self) -> Ints:
        """The panel's people (indices) that centres and scalers are made from."""
        active = self._panel.active(self._time)
        outside = np.flatnonzero(active & ~self._panel.holdout)
        return outside if len(outside) else np.flatnonzero(active)

    def _publish(self, learned_to: int) -> Version:
        """The next version, and go on from it."""
        panel, parent = self._panel, self.version
        panel.advance(self._time, self._time if parent is None else parent.event_time)
        active, learned = panel.active(self._time), self._learned()
        fitted = self._fitted_scaler(panel.raw[learned])
        points = fitted.transform(panel.raw)
        if parent is not None:
            points = parent.coordinates(panel.raw, points)
        people = People(
            points=points,
            learned=learned,
            holdout=np.flatnonzero(active & panel.holdout),
            active=active,
            before=panel.segment.copy(),
            days_ago=panel.days_ago(),
        )
        bare = self._bare_version(self._segments(people), fitted, learned_to)
        panel.reassign(bare)
        members = Membership(people.days_ago, people.before, panel.segment, active)
        lineage = lineage_events(members, parent.ids if parent else [], bare.ids)
        version = self._complete(msgspec.structs.replace(self._described(bare, people), lineage=lineage))
        self._go_on_from(version)
        return version

    def _fitted_scaler(self, raw: Floats) -> Scaler:
        """For the people of now (n, 2R + L), but not all of the way from the scaler before."""
        fitted = scaler.fit(raw, self.params.ratios, self.params.clip)
        fitted = scaler.weigh(fitted, raw, self._panel.pairs, self._panel.change)
        if self.version is None:
            return fitted
        passed = 1.0 - 0.5 ** ((self._time - self.version.event_time) / (1_000 * self.params.half_life))
        return scaler.blend(self.version.scaler, fitted, max(passed, self._rows_since / self._rows))

    def _segments(self, people: People) -> Segments:
        """The set of segments of the next version."""
        params, parent, points = self.params, self.version, people.points[people.learned]
        seed = params.seed + 1_000 * (0 if parent is None else parent.number)
        kmeans, centres = params.segmenter == "kmeans", points[:0]
        if not kmeans:
            in_time = points[np.argsort(self._panel.now[people.learned], kind="stable")]
            k = params.k_most if parent is None else len(parent.ids)
            bounds = params.k_least, params.k_most
            centres = river_clusterers.find_centres(params.segmenter, in_time, *bounds, k, params.seed)
        if parent is None:
            if not len(centres):
                most = params.k_most if kmeans else params.k_least
                holdout = people.points[people.holdout]
                centres = proposals.first_centres(points, holdout, params.k_least, most, seed)
            return Segments(centres, list(range(len(centres))), len(centres))
        if len(centres):
            return with_ids(Segments(parent.centres, parent.ids, parent.next_id), centres, people)
        carried = self._carried_centres(people, parent)
        if not kmeans:  # nothing was found: the segments stay where their people are
            return Segments(carried, parent.ids, parent.next_id)
        moved = Segments(lloyd(points, carried, REFIT_ROUNDS), parent.ids, parent.next_id)
        return self._split_merge.revise(moved, people, self._time, seed)

    def _carried_centres(self, people: People, parent: Version) -> Floats:
        """The centres (k, D) as the k-means has them, each moved as its people are by the new scaler."""
        before = parent.coordinates(self._panel.raw, parent.scaler.transform(self._panel.raw))
        label = centre_index(parent.ids, people.before[people.learned])
        shift, _ = label_means((people.points - before)[people.learned], label, len(parent.ids))
        return self._kmeans.centre_matrix + shift

    def _bare_version(self, segments: Segments, fitted: Scaler, learned_to: int) -> Version:
        """Centres and ids, without what their people are like, side models and state."""
        parent, params = self.version, self.params
        space, encoder = ("windows", None) if parent is None else (parent.space, parent.encoder)
        if space == "windows":  # one that was offered is not in force where segments are made of another
            encoder = self._candidate or encoder
            self._candidate = None
        return Version(
            number=1 if parent is None else parent.number + 1,
            names=params.names,
            ratios=params.ratios,
            scaler=fitted,
            ids=segments.ids,
            next_id=segments.next_id,
            centre_bytes=segments.centres.astype("<f8").tobytes(),
            profile_bytes=b"",
            weights=[],
            learned_to=learned_to,
            rows=self._rows,
            event_time=self._time,
            parent=0 if parent is None else parent.number,
            error=0.0,
            hysteresis=params.hysteresis,
            space=space,
            encoder=encoder,
        )

    def _described(self, version: Version, people: People) -> Version:
        """With what those are like whom it was made from."""
        features = version.scaler.transform(self._panel.raw[people.learned])
        label = centre_index(version.ids, self._panel.segment[people.learned])
        squared = nearest(people.points[people.learned], version.centres)[2]
        everybody, _ = label_means(features, np.zeros(len(features), np.int64), 1)
        return with_description(version, features, label, squared, everybody[0])

    def _quality(self, version: Version) -> dict[str, float]:
        """What a version is worth to the people of the holdout; to all where there are none."""
        active = self._panel.active(self._time)
        holdout = active & self._panel.holdout
        raw = self._panel.raw[holdout if holdout.any() else active]
        points = version.coordinates(raw, version.scaler.transform(raw))
        fitted = proposals.fit(points[:0], points, version.centres)
        return {
            "silhouette": mean(fitted.silhouette),
            "error": mean(fitted.distance),
            "people": float(len(raw)),
            "segments": float(len(version.ids)),
        }

    def _complete(self, version: Version) -> Version:
        """With its quality, the side models, and the state to go on from."""
        models = {name: learner.publish(version) for name, learner in self._side_learners.items()}
        quality = self._quality(version)
        for learner in self._side_learners.values():
            quality |= learner.figures()
        states = {name: learner.state() for name, learner in self._side_learners.items()}
        state = _State(
            panel=self._panel.state(),
            pending=self._split_merge.pending,
            candidate=b"" if self._candidate is None else self._candidate.data,
            **to_fields(states),
        )
        version = version.with_side_models(models)
        return msgspec.structs.replace(version, state=msgspec.msgpack.encode(state), quality=quality)

    def _go_on_from(self, version: Version) -> None:
        self.version, self._rows_since, self._people = version, 0, len(self._learned())
        counts = np.array(version.weights) * self._people
        self._kmeans = KMeans.from_centres(version.centres, counts, self.params.floor)
