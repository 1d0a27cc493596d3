"""New users: from the first minutes, the segment that a user stands in a day later.

A tree of its own for each segment that users stand in now: most stay, and that is what a tree says until it knows
better (measured: one tree for all of them falls far behind saying "stays"). The trees are River's Hoeffding adaptive
trees, learned on line from rows whose user's first day has ended since.

River's trees cannot be written down without pickle, so what is kept are the rows that they were learned from, at most
`window` of them: learned again in the same order they are the same trees. A full window leaves its newer half.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.calibration import Calibration, Tally
from online_models.hoeffding import Nodes, Tree
from online_models.lineage import Lineage
from online_models.nearest import Floats
from online_models.rows import DAY, ROW, USER, Ints, Rows
from online_models.sample import Sample
from online_models.version import Version, assign

HOUR_MS = 3_600_000
PATIENCE = 72 * HOUR_MS  # after its birth a user whose first day's end did not come is waited for no longer
BINS = 20
PARTS = 8_192.0  # features are kept as whole numbers of this part, in 16 bits
HALF = 0.5  # share of an ended segment's people that have to be in one other for that to be its heir
FADE = 4_000  # predictions after which their counts are halved


class Params(msgspec.Struct, frozen=True):
    window: int = 16_384  # rows that the trees are learned from, at most
    waiting: int = 4_096  # rows whose user's first day has not ended, at most
    least: int = 300  # rows learned from before anything is foretold


class YoungModel(msgspec.Struct, frozen=True):
    """What a version says of young users: what the trees say where they are trusted, else that all stay."""

    trusted: bool
    segment: list[int]  # (s,) those with a tree, ascending
    root: list[int]  # (s,) its node
    stayed: list[float]  # (s,) share of its rows whose users stayed
    stay: float  # and of all rows, for segments without a tree
    nodes: Nodes
    trees: Calibration  # of what the trees say
    staying: Calibration  # of what the shares say


def predict(model: YoungModel, features: Floats, segment: NDArray[np.integer]) -> tuple[NDArray[np.int64], Floats]:
    """The segment (n,) in which each user is a day after its first event, by id, and the probability (n,) of that.

    features (n, F) by the scaler of the model's version, segment (n,) where the users stand now. Elementwise.
    """
    if model.trusted:
        label, score = by_trees(model, features, segment)
        return label, model.trees.apply(score)
    return segment.astype(np.int64), model.staying.apply(by_staying(model, segment))


def by_trees(model: YoungModel, features: Floats, segment: NDArray[np.integer]) -> tuple[NDArray[np.int64], Floats]:
    """What the trees say, trusted or not, before calibration."""
    label, score = segment.astype(np.int64), np.full(len(segment), model.stay)
    found, at = _known(model, segment)
    if len(found):
        label[found], score[found] = model.nodes.ask(np.array(model.root)[at], features[found])
    return label, score


def by_staying(model: YoungModel, segment: NDArray[np.integer]) -> Floats:
    """The share (n,) of those who stayed in each one's segment."""
    score = np.full(len(segment), model.stay)
    found, at = _known(model, segment)
    if len(found):
        score[found] = np.array(model.stayed)[at]
    return score


def _known(model: YoungModel, segment: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Which lines stand in a segment with a tree, and in which of those."""
    if not model.segment:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    known = np.array(model.segment)
    at = np.minimum(np.searchsorted(known, segment), len(known) - 1)
    found = np.flatnonzero(known[at] == segment)
    return found, at[found]


def day_end(born: Ints) -> Ints:
    """When a user's first day ends (ms); `streams/training.py` sends DAY then."""
    return (born // HOUR_MS + 25) * HOUR_MS


def is_young(now: Ints, born: Ints) -> NDArray[np.bool_]:
    """Whose first day has not ended; born 0 is not known."""
    return (born > 0) & (now < day_end(born))


class _Waiting(msgspec.Struct, array_like=True):
    """A young user's row, and what was foretold of it: by the trees, then by staying; -1 for nothing."""

    born: int
    line: bytes  # (F,) features in PARTS, little-endian int16
    segment: int
    label: int
    trusted: bool
    score: tuple[float, float]
    told: tuple[float, float]


class _State(msgspec.Struct, array_like=True):
    lines: bytes  # (n, F) as above, in the order in which they were learned
    segment: list[int]
    label: list[int]
    waiting: list[tuple[bytes, list[_Waiting]]]
    counts: list[int]
    labels: dict[int, int]
    tallies: tuple[Tally, Tally]
    time: int


class Young:
    """A fold over rows in log order, however they are cut into calls: `learn` all rows between two versions, then
    `publish` what the next one says."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.model: YoungModel | None = None
        self._lines: list[bytes] = []
        self._segment: list[int] = []
        self._label: list[int] = []
        self._trees: dict[int, Tree] = {}
        self._waiting: Sample[_Waiting] = Sample(params.waiting)
        self._counts = [0, 0, 0, 0, 0]  # foretold; right as told, by the trees, had all stayed, by the majority
        self._labels: dict[int, int] = {}  # how many ended where, of those foretold
        self._tallies = (Tally.of(0.0, 1.0, BINS), Tally.of(0.0, 1.0, BINS))  # of the trees, of staying
        self._time = 0

    @classmethod
    def start(cls, params: Params) -> Young:
        return cls(params)

    @classmethod
    def resume(cls, state: bytes, params: Params, model: YoungModel | None) -> Young:
        """Go on from the state and model of a version: as if it had never stopped."""
        young, kept = cls(params), msgspec.msgpack.decode(state, type=_State)
        size = len(kept.lines) // len(kept.label) if kept.label else 0
        lines = [kept.lines[i * size : (i + 1) * size] for i in range(len(kept.label))]
        young._learn_again(list(zip(lines, kept.segment, kept.label, strict=True)))
        for user, entries in kept.waiting:
            young._waiting.keep(user, entries)
        young._counts, young._labels, young._tallies, young._time = kept.counts, kept.labels, kept.tallies, kept.time
        young.model = model
        return young

    def state(self) -> bytes:
        """What `resume` goes on from, together with the model published last."""
        return msgspec.msgpack.encode(
            _State(
                b"".join(self._lines), self._segment, self._label, list(self._waiting.items()), self._counts,
                dict(sorted(self._labels.items())), self._tallies, self._time,
            )
        )  # fmt: skip

    def learn(self, rows: Rows, version: Version) -> None:
        """Rows in log order, under the version that was current when they came."""
        young = (rows.kind == ROW) & is_young(rows.now, rows.born)
        rows = rows.take(np.flatnonzero(young | (rows.kind == DAY)))
        if not len(rows):
            return
        self._time = max(self._time, int(rows.now.max()))
        assigned = assign(version, rows.raw)
        segments, lines = assigned.segment.tolist(), np.clip(np.rint(assigned.features * PARTS), -32_768, 32_767).astype("<i2")
        label = np.full(len(rows), -1)
        score = told = np.zeros((2, len(rows)))
        if self.model is not None:
            label, by = by_trees(self.model, assigned.features, assigned.segment)
            score = np.stack((by, by_staying(self.model, assigned.segment)))
            told = np.stack((self.model.trees.apply(score[0]), self.model.staying.apply(score[1])))
        trusted = self.model is not None and self.model.trusted
        users, size = rows.user.tobytes(), USER.itemsize
        scores, tolds = list(zip(*score.tolist(), strict=True)), list(zip(*told.tolist(), strict=True))
        for i, (kind, born, said) in enumerate(zip(rows.kind.tolist(), rows.born.tolist(), label.tolist(), strict=True)):
            user = users[i * size : (i + 1) * size]
            if kind == ROW:
                entry = _Waiting(born, lines[i].tobytes(), segments[i], said, trusted, scores[i], tolds[i])
                self._waiting.add(user, entry)
                continue
            for one in self._waiting.pop(user):
                if one.born == born:  # else of an earlier life
                    self._see(one, segments[i])

    def publish(self, lineage: list[Lineage]) -> YoungModel | None:
        """What the next version says, given what became of the segments in it; None from too few rows.

        An ended segment's people count as its heir's where most of them went to one; else the rows about it are left
        out. Those of a segment that others were split from stay with it until newer rows say otherwise.
        """
        moved = heirs(lineage)
        if moved:
            self._follow(moved)
        for user, entries in list(self._waiting.items()):
            kept = [one for one in entries if one.born + PATIENCE > self._time]
            if len(kept) < len(entries):
                self._waiting.keep(user, kept)
        self.model = self._export() if len(self._label) >= self.params.least else None
        return self.model

    def figures(self) -> dict[str, float]:
        """Of predictions made when a row came, by the version of then, and judged when the user's first day ended: the
        share that was right as told (`young_right`), of the trees, had all been said to stay, by the majority; how far
        the probabilities of the trees and of staying were off; number of them. Older ones fade."""
        n, *right = self._counts
        names = ("young_right", "young_trees", "young_stay", "young_majority")
        found = {name: count / max(1, n) for name, count in zip(names, right, strict=True)}
        for name, tally in zip(("trees", "stay"), self._tallies, strict=True):
            found[f"young_{name}_calibration_error"] = tally.error()
        return found | {"young_predictions": float(n)}

    @property
    def trusted(self) -> bool:
        """Whether the trees have been right no less often than saying that all stay."""
        n, _, trees, stayed, _ = self._counts
        return n >= self.params.least and trees >= stayed

    def _see(self, row: _Waiting, label: int) -> None:
        if row.label >= 0:
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
        self._learn_one(row.line, row.segment, label)
        if len(self._label) >= self.params.window:
            kept = list(zip(self._lines, self._segment, self._label, strict=True))
            self._learn_again(kept[len(kept) // 2 :])

    def _learn_one(self, line: bytes, segment: int, label: int) -> None:
        self._lines.append(line)
        self._segment.append(segment)
        self._label.append(label)
        if segment not in self._trees:
            self._trees[segment] = Tree()
        features = np.frombuffer(line, "<i2") / PARTS
        self._trees[segment].learn_one(dict(enumerate(features.tolist())), label)

    def _learn_again(self, rows: list[tuple[bytes, int, int]]) -> None:
        self._lines, self._segment, self._label, self._trees = [], [], [], {}
        for line, segment, label in rows:
            self._learn_one(line, segment, label)

    def _follow(self, moved: dict[int, int]) -> None:
        """Segments that ended, and their heirs (-1: none)."""
        rows = [
            (line, moved.get(segment, segment), moved.get(label, label))
            for line, segment, label in zip(self._lines, self._segment, self._label, strict=True)
        ]
        if not moved.keys().isdisjoint(self._segment) or not moved.keys().isdisjoint(self._label):
            self._learn_again([row for row in rows if row[1] >= 0 and row[2] >= 0])
        for user, entries in list(self._waiting.items()):
            for one in entries:
                one.segment, one.label = moved.get(one.segment, one.segment), moved.get(one.label, one.label)
            self._waiting.keep(user, [one for one in entries if one.segment >= 0])
        labels: dict[int, int] = {}
        for label, count in self._labels.items():
            label = moved.get(label, label)
            if label >= 0:
                labels[label] = labels.get(label, 0) + count
        self._labels = labels

    def _export(self) -> YoungModel:
        nodes, segments = Nodes(), sorted(self._trees)
        roots = [nodes.grow(self._trees[segment]) for segment in segments]
        count, stayed = dict.fromkeys(segments, 0), dict.fromkeys(segments, 0)
        for segment, label in zip(self._segment, self._label, strict=True):
            count[segment] += 1
            stayed[segment] += segment == label
        trees, staying = (tally.calibration(tally.middles) for tally in self._tallies)
        return YoungModel(
            self.trusted, segments, roots, [stayed[one] / count[one] for one in segments],
            sum(stayed.values()) / len(self._label), nodes, trees, staying,
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
