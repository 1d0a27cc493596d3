"""New users, learned on line from rows whose user's first day has ended since.

A tree of its own for each segment that users stand in when their row comes: most stay, and that is what a tree says
until it knows better (measured: one tree for all falls far behind saying "stays"; python -m tests.bench.young). They
are River's Hoeffding adaptive trees. River cannot write them down without pickle, so what is kept are the rows that
they were learned from, the newest `window` at most: learned again in the same order they are the same trees.

A new version moves segments and scaling. Rows are kept raw, so they can be seen as it sees them: where that puts enough
of them elsewhere, the trees are learned again. Segments that were split, merged or retired need no other care.
"""

from __future__ import annotations

import msgspec
import numpy as np

from online_models.lineage import Lineage
from online_models.prediction.decision_trees import Nodes
from online_models.prediction.first_day import HOUR_MS, YoungModel, by_staying, by_trees, is_young
from online_models.prediction.hoeffding import Tree, grow
from online_models.prediction.row_codec import pack, unpack
from online_models.prediction.score_bins import Tally
from online_models.prediction.user_pool import Sample
from online_models.training_rows import DAY, ROW, USER, Rows
from online_models.version import Version, assign

PATIENCE = 72 * HOUR_MS  # after its birth a user whose first day's end did not come is waited for no longer
MOVED = 0.05  # share of the rows kept that a version sees in other segments, above which trees are learned again
BINS = 20
FADE = 4_000  # predictions after which their counts are halved: what is old says less
PARTS = 8_192.0  # features are whole numbers of this part, in 16 bits
HALF = 0.5  # share of an ended segment's people that have to be in one other for that to be its heir


class Params(msgspec.Struct, frozen=True):
    window: int = 8_192  # rows that the trees are learned from, at most; when it is full its older half is left
    waiting: int = 4_096  # rows whose user's first day has not ended, at most
    least: int = 300  # rows learned from before anything is foretold


class _Waiting(msgspec.Struct, array_like=True):
    """A young user's row, and what was foretold of it: by the trees, then by staying."""

    born: int
    line: bytes
    segment: int  # where it stood
    label: int  # where the trees saw it, -1: nothing was foretold
    trusted: bool
    score: tuple[float, float]
    told: tuple[float, float]


class _Kept(msgspec.Struct, array_like=True):
    """A row, its user's line a day later, and what was learned of both under the version of then."""

    row: bytes
    day: bytes
    features: bytes  # (F,) in PARTS, little-endian int16
    segment: int
    label: int


class _State(msgspec.Struct, array_like=True):
    kept: list[_Kept]  # in the order in which they were learned
    waiting: list[tuple[bytes, list[_Waiting]]]
    counts: list[int]
    labels: dict[int, int]
    tallies: tuple[Tally, Tally]
    time: int


class YoungLearner:
    """A fold over rows in log order, however they are cut into calls: `learn` all rows between two versions, then
    `publish` what the next one says."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.model: YoungModel | None = None
        self._kept: list[_Kept] = []
        self._trees: dict[int, Tree] = {}  # by the segment where users stand
        self._waiting: Sample[_Waiting] = Sample(params.waiting)
        self._counts = [0, 0, 0, 0, 0]  # foretold; right as told, by the trees, had all stayed, by the majority
        self._labels: dict[int, int] = {}  # how many ended where, of those foretold
        self._tallies = (Tally.of(0.0, 1.0, BINS), Tally.of(0.0, 1.0, BINS))  # of the trees, of staying
        self._time = 0

    @classmethod
    def resume(cls, state: bytes, params: Params, model: YoungModel | None) -> YoungLearner:
        """Go on from the state and model of a version: as if it had never stopped."""
        one, found = cls(params), msgspec.msgpack.decode(state, type=_State)
        one._learn_again(found.kept)
        for user, entries in found.waiting:
            one._waiting.keep(user, entries)
        one._counts, one._labels, one._tallies, one._time = found.counts, found.labels, found.tallies, found.time
        one.model = model
        return one

    def state(self) -> bytes:
        """What `resume` goes on from, together with the model published last."""
        labels = dict(sorted(self._labels.items()))
        return msgspec.msgpack.encode(
            _State(self._kept, list(self._waiting.items()), self._counts, labels, self._tallies, self._time)
        )

    def learn(self, rows: Rows, version: Version) -> None:
        """Rows in log order, under the version that was current when they came."""
        rows = rows.take(((rows.kind == ROW) & is_young(rows.now, rows.born)) | (rows.kind == DAY))
        if not len(rows):
            return
        self._time = max(self._time, int(rows.now.max()))
        assigned = assign(version, rows.raw)
        model, segments = self.model, assigned.segment.tolist()
        label, score, told = np.full(len(rows), -1), np.zeros((2, len(rows))), np.zeros((2, len(rows)))
        if model is not None:
            label, score[0] = by_trees(model, assigned.features, assigned.segment)
            score[1] = by_staying(model, assigned.segment)
            told[0], told[1] = model.trees.apply(score[0]), model.staying.apply(score[1])
        users, size = rows.user.tobytes(), USER.itemsize
        trusted = model is not None and model.trusted
        ripe: list[tuple[_Waiting, int]] = []
        columns = (rows.kind.tolist(), rows.born.tolist(), label.tolist())
        for i, (kind, born, said) in enumerate(zip(*columns, strict=True)):
            user = users[i * size : (i + 1) * size]
            if kind == ROW:
                scores, tolds = (float(score[0, i]), float(score[1, i])), (float(told[0, i]), float(told[1, i]))
                entry = _Waiting(born, pack(rows.raw[i]), segments[i], said, trusted, scores, tolds)
                self._waiting.add(user, entry)
            else:  # those of another birth are of an earlier life
                ripe += [(one, i) for one in self._waiting.pop(user) if one.born == born]
        if ripe:
            days = [pack(rows.raw[i]) for _, i in ripe]
            for (one, i), kept in zip(ripe, _seen([one.line for one, _ in ripe], days, version), strict=True):
                kept.label = segments[i]
                self._judge(one, segments[i])
                self._learn_one(kept)
                if len(self._kept) >= self.params.window:
                    self._learn_again(self._kept[len(self._kept) // 2 :])

    def publish(self, version: Version) -> YoungModel | None:
        """What the next version, given without it, says; None from too few rows."""
        heir = heirs(version.lineage)
        for user, entries in list(self._waiting.items()):
            for one in entries:
                one.segment, one.label = heir.get(one.segment, one.segment), heir.get(one.label, one.label)
            self._waiting.keep(user, [one for one in entries if one.born + PATIENCE > self._time])
        self._labels = {label: count for label, count in self._labels.items() if label not in heir}
        if self._kept:
            kept = _seen([one.row for one in self._kept], [one.day for one in self._kept], version)
            ended = {*(one.segment for one in self._kept), *(one.label for one in self._kept)} - {*version.ids}
            moved = sum(
                (old.segment, old.label) != (new.segment, new.label) for old, new in zip(self._kept, kept, strict=True)
            )
            if ended or moved > MOVED * len(kept):
                self._learn_again(kept)
        self.model = self._export() if len(self._kept) >= self.params.least else None
        return self.model

    def figures(self) -> dict[str, float]:
        """Of predictions made when a row came, by the version of then, and judged when the user's first day ended: the
        share that was right as told (`young_accuracy`), and that would have been by the trees, had all been said to
        stay, by the majority class; how far the probabilities of what is in force were off on average; the number of
        them. Older ones fade."""
        n, *right = self._counts
        names = ("young_accuracy", "young_trees", "young_stay", "young_majority")
        found = {name: count / max(1, n) for name, count in zip(names, right, strict=True)}
        found["young_calibration_error"] = self._tallies[not self.trusted].error()
        return found | {"young_predictions": float(n)}

    @property
    def trusted(self) -> bool:
        """Whether the trees have been right more often than saying that all stay, by more than chance: where the two
        differ in a quarter of the predictions, by a standard deviation."""
        n, _, trees, stayed, _ = self._counts
        return n >= self.params.least and trees > stayed and 4 * (trees - stayed) ** 2 > n

    def _judge(self, row: _Waiting, label: int) -> None:
        if row.label < 0 or row.segment < 0:  # nothing was foretold, or its segment ended without an heir
            return
        most = min(self._labels, key=lambda one: (-self._labels[one], one), default=-1)
        told = row.label if row.trusted else row.segment
        for at, one in enumerate((label, told, row.label, row.segment, most)):
            self._counts[at] += one == label
        self._labels[label] = self._labels.get(label, 0) + 1
        for i, one in enumerate((row.label, row.segment)):
            self._tallies[i].add(row.score[i], row.told[i], one == label)
        if self._counts[0] >= FADE:
            self._counts = [count // 2 for count in self._counts]
            self._labels = {one: count // 2 for one, count in self._labels.items()}

    def _learn_one(self, one: _Kept) -> None:
        self._kept.append(one)
        if one.segment not in self._trees:
            self._trees[one.segment] = Tree()
        features = np.frombuffer(one.features, "<i2") / PARTS
        self._trees[one.segment].learn_one(dict(enumerate(features.tolist())), one.label)

    def _learn_again(self, kept: list[_Kept]) -> None:
        self._kept, self._trees = [], {}
        for one in kept:
            self._learn_one(one)

    def _export(self) -> YoungModel:
        nodes, segments = Nodes(), sorted(self._trees)
        roots = [grow(nodes, self._trees[segment]) for segment in segments]
        count, stayed = dict.fromkeys(segments, 0), dict.fromkeys(segments, 0)
        for one in self._kept:
            count[one.segment] += 1
            stayed[one.segment] += one.segment == one.label
        trees, staying = (tally.calibration(tally.middles) for tally in self._tallies)
        return YoungModel(
            self.trusted, segments, roots, [stayed[one] / count[one] for one in segments],
            sum(stayed.values()) / len(self._kept), nodes, trees, staying,
        )  # fmt: skip


def heirs(lineage: list[Lineage]) -> dict[int, int]:
    """Of each segment that ended the one in which most of its people are, -1 where no other has half of them."""
    found: dict[int, int] = {}
    for one in lineage:
        if one.event in ("merged", "retired"):
            heir, share = min(one.heirs, key=lambda pair: (-pair[1], pair[0]), default=(-1, 0.0))
            found[one.segment] = heir if share >= HALF else -1
    for segment in found:
        for _ in found:  # an heir may have ended in the same version
            found[segment] = found.get(found[segment], found[segment])
    return found


def _seen(rows: list[bytes], days: list[bytes], version: Version) -> list[_Kept]:
    """Rows and their users' lines a day later, as a version sees them."""
    then, ended = assign(version, unpack(rows)), assign(version, unpack(days)).segment.tolist()
    features = np.clip(np.rint(then.features * PARTS), -32_768, 32_767).astype("<i2")
    return [
        _Kept(row, day, line.tobytes(), segment, label)
        for row, day, line, segment, label in zip(rows, days, features, then.segment.tolist(), ended, strict=True)
    ]
