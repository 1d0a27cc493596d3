"""Learns the first-day classifier on line, from rows whose user's first day has ended since.

A tree of its own for each segment that users are in when their row comes: most stay, and that is what a tree says until
it knows better (measured: one tree for all falls far behind saying "stays"; python -m tests.bench.young). They are
River's Hoeffding adaptive trees. River cannot write them down without pickle, so what is kept are the rows that they
were learned from, the newest `window` at most: learned again in the same order they are the same trees.

A new version moves segments and scaling. Rows are kept raw, so they can be seen as it sees them: where that puts enough
of them elsewhere, the trees are learned again. Segments that were split, merged or retired need no other care.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from online_models.assignment import assign
from online_models.lineage import Lineage
from online_models.prediction.decision_trees import DecisionTrees
from online_models.prediction.first_day import FirstDayModel, by_staying, by_trees, in_first_day
from online_models.prediction.hoeffding import Tree, add_tree
from online_models.prediction.row_codec import decode_rows, encode_row
from online_models.prediction.score_bins import ScoreBins
from online_models.prediction.user_pool import UserPool
from online_models.training_rows import FIRST_DAY_ROW, HOUR_MS, SAMPLE_ROW, TrainingRows

if TYPE_CHECKING:
    from online_models.version import Version

PATIENCE = 72 * HOUR_MS  # after its birth a user whose first day's end did not come is waited for no longer
MOVED = 0.05  # share of the rows kept that a version sees in other segments, above which trees are learned again
BINS = 20
FADE = 4_000  # predictions after which their counts are halved: what is old says less
FEATURE_UNITS = 8_192.0  # features are kept as whole numbers of this part, in 16 bits
HEIR_SHARE = 0.5  # of an ended segment's people that have to be in one other for that to be its heir
NOTHING = -1  # predicted


class FirstDayParams(msgspec.Struct, frozen=True):
    window: int = 8_192  # rows that the trees are learned from, at most; when it is full its older half is left
    waiting: int = 4_096  # rows whose user's first day has not ended, at most
    least: int = 300  # rows learned from before anything is predicted


class _Waiting(msgspec.Struct, array_like=True):
    """A new user's row, and what was predicted of it: by the trees, then by staying."""

    born: int
    row: bytes
    segment: int  # that the user was in
    label: int  # that the trees predicted, NOTHING where there was no model
    trusted: bool
    score: tuple[float, float]
    probability: tuple[float, float]


class _Example(msgspec.Struct, array_like=True):
    """A row, its user's row at the end of the first day, and both as the version of then saw them."""

    row: bytes
    end_row: bytes
    features: bytes  # (F,) in FEATURE_UNITS, little-endian int16
    segment: int
    label: int


class _State(msgspec.Struct, array_like=True):
    examples: list[_Example]  # in the order in which they were learned
    waiting: list[tuple[bytes, list[_Waiting]]]
    counts: list[int]
    labels: dict[int, int]
    bins: tuple[ScoreBins, ScoreBins]
    time: int


class FirstDayLearner:
    """A SideLearner."""

    def __init__(self, params: FirstDayParams) -> None:
        self.params = params
        self.model: FirstDayModel | None = None
        self._examples: list[_Example] = []
        self._trees: dict[int, Tree] = {}  # by the segment that users are in
        self._waiting: UserPool[_Waiting] = UserPool(params.waiting)
        self._counts = [0, 0, 0, 0, 0]  # predicted; right as published, by the trees, had all stayed, by the majority
        self._labels: dict[int, int] = {}  # how many ended where, of those predicted
        self._bins = (ScoreBins.empty(0.0, 1.0, BINS), ScoreBins.empty(0.0, 1.0, BINS))  # of the trees, of staying
        self._time = 0

    @classmethod
    def resume(cls, state: bytes, params: FirstDayParams, model: FirstDayModel | None) -> FirstDayLearner:
        learner, stored = cls(params), msgspec.msgpack.decode(state, type=_State)
        learner._learn_again(stored.examples)
        for user, entries in stored.waiting:
            learner._waiting.replace(user, entries)
        learner._counts, learner._labels = stored.counts, stored.labels
        learner._bins, learner._time, learner.model = stored.bins, stored.time, model
        return learner

    def state(self) -> bytes:
        labels = dict(sorted(self._labels.items()))
        waiting = list(self._waiting.items())
        return msgspec.msgpack.encode(_State(self._examples, waiting, self._counts, labels, self._bins, self._time))

    def learn(self, rows: TrainingRows, version: Version | None) -> None:
        if version is None:
            return
        new_users = (rows.kind == SAMPLE_ROW) & in_first_day(rows.now, rows.born)
        rows = rows.take(new_users | (rows.kind == FIRST_DAY_ROW))
        if not len(rows):
            return
        self._time = max(self._time, int(rows.now.max()))
        waiting, segments = self._predicted(rows, version)
        ended: list[tuple[_Waiting, int]] = []  # and the index of the row at the first day's end
        for i, (kind, user) in enumerate(zip(rows.kind.tolist(), rows.pseudonyms(), strict=True)):
            if kind == SAMPLE_ROW:
                self._waiting.add(user, waiting[i])
            else:  # those of another birth are of an earlier life
                ended += [(entry, i) for entry in self._waiting.pop(user) if entry.born == waiting[i].born]
        if not ended:
            return
        examples = _examples([entry.row for entry, _ in ended], [waiting[i].row for _, i in ended], version)
        for (entry, i), example in zip(ended, examples, strict=True):
            example.label = segments[i]
            self._judge(entry, segments[i])
            self._learn_example(example)
            if len(self._examples) >= self.params.window:
                self._learn_again(self._examples[len(self._examples) // 2 :])

    def _predicted(self, rows: TrainingRows, version: Version) -> tuple[list[_Waiting], list[int]]:
        """Each row with what is predicted of it now, and its segment."""
        assigned, model = assign(version, rows.raw), self.model
        segments: list[int] = assigned.segment.tolist()
        label = np.full(len(rows), NOTHING)
        score, probability = np.zeros((2, len(rows))), np.zeros((2, len(rows)))
        if model is not None:
            label, score[0] = by_trees(model, assigned.features, assigned.segment)
            score[1] = by_staying(model, assigned.segment)
            probability[0], probability[1] = model.trees.apply(score[0]), model.staying.apply(score[1])
        trusted = model is not None and model.trusted
        columns = zip(rows.born.tolist(), rows.raw, segments, label.tolist(), strict=True)
        by_row = zip(columns, score.T.tolist(), probability.T.tolist(), strict=True)
        waiting = [
            _Waiting(born, encode_row(raw), segment, predicted, trusted, (of[0], of[1]), (chance[0], chance[1]))
            for (born, raw, segment, predicted), of, chance in by_row
        ]
        return waiting, segments

    def publish(self, version: Version) -> FirstDayModel | None:
        heir = heirs(version.lineage)
        for user, entries in list(self._waiting.items()):
            for entry in entries:
                entry.segment = heir.get(entry.segment, entry.segment)
                entry.label = heir.get(entry.label, entry.label)
            self._waiting.replace(user, [entry for entry in entries if entry.born + PATIENCE > self._time])
        self._labels = {label: count for label, count in self._labels.items() if label not in heir}
        if self._examples:
            self._see_as(version)
        self.model = self._export() if len(self._examples) >= self.params.least else None
        return self.model

    def _see_as(self, version: Version) -> None:
        """Learn the trees again where a version sees the examples too differently."""
        old = self._examples
        new = _examples([example.row for example in old], [example.end_row for example in old], version)
        ended = {*(example.segment for example in old), *(example.label for example in old)} - {*version.ids}
        moved = sum((a.segment, a.label) != (b.segment, b.label) for a, b in zip(old, new, strict=True))
        if ended or moved > MOVED * len(new):
            self._learn_again(new)

    def figures(self) -> dict[str, float]:
        """Of predictions made when a row came, by the version of then, and judged when the user's first day ended: the
        share that was right as published (`young_accuracy`), and that would have been by the trees, had all been said
        to stay, by the majority class; how far the probabilities of what is in force were off on average; the number of
        them. Older ones fade."""
        predictions, *right = self._counts
        names = ("young_accuracy", "young_trees", "young_stay", "young_majority")
        figures = {name: count / max(1, predictions) for name, count in zip(names, right, strict=True)}
        in_force = self._bins[0 if self.trusted else 1]
        figures["young_calibration_error"] = in_force.calibration_error()
        return figures | {"young_predictions": float(predictions)}

    @property
    def trusted(self) -> bool:
        """Whether the trees have been right more often than saying that all stay, by more than chance: where the two
        differ in a quarter of the predictions, by a standard deviation."""
        predictions, _, trees, stayed, _ = self._counts
        return predictions >= self.params.least and trees > stayed and 4 * (trees - stayed) ** 2 > predictions

    def _judge(self, entry: _Waiting, label: int) -> None:
        """Count what was predicted of a row, now that its user's segment at the end of the first day is known."""
        if entry.label < 0 or entry.segment < 0:  # nothing was predicted, or its segment ended without an heir
            return
        majority = min(self._labels, key=lambda known: (-self._labels[known], known), default=NOTHING)
        published = entry.label if entry.trusted else entry.segment
        for i, predicted in enumerate((label, published, entry.label, entry.segment, majority)):
            self._counts[i] += predicted == label  # the first one counts the predictions
        self._labels[label] = self._labels.get(label, 0) + 1
        for i, predicted in enumerate((entry.label, entry.segment)):
            self._bins[i].add(entry.score[i], entry.probability[i], predicted == label)
        if self._counts[0] >= FADE:
            self._counts = [count // 2 for count in self._counts]
            self._labels = {known: count // 2 for known, count in self._labels.items()}

    def _learn_example(self, example: _Example) -> None:
        self._examples.append(example)
        if example.segment not in self._trees:
            self._trees[example.segment] = Tree()
        features = np.frombuffer(example.features, "<i2") / FEATURE_UNITS
        self._trees[example.segment].learn_one(dict(enumerate(features.tolist())), example.label)

    def _learn_again(self, examples: Sequence[_Example]) -> None:
        """Trees of these examples alone."""
        self._examples, self._trees = [], {}
        for example in examples:
            self._learn_example(example)

    def _export(self) -> FirstDayModel:
        nodes, segments = DecisionTrees(), sorted(self._trees)
        roots = [add_tree(nodes, self._trees[segment]) for segment in segments]
        count, stayed = dict.fromkeys(segments, 0), dict.fromkeys(segments, 0)
        for example in self._examples:
            count[example.segment] += 1
            stayed[example.segment] += example.segment == example.label
        trees, staying = (bins.calibration(bins.middles) for bins in self._bins)
        return FirstDayModel(
            trusted=self.trusted,
            segment=segments,
            root=roots,
            stayed=[stayed[segment] / count[segment] for segment in segments],
            stay=sum(stayed.values()) / len(self._examples),
            nodes=nodes,
            trees=trees,
            staying=staying,
        )


def heirs(lineage: list[Lineage]) -> dict[int, int]:
    """Of each segment that ended the one in which most of its people are, -1 where no other has half of them."""
    heir_of: dict[int, int] = {}
    for event in lineage:
        if event.event in ("merged", "retired"):
            heir, share = min(event.heirs, key=lambda pair: (-pair[1], pair[0]), default=(-1, 0.0))
            heir_of[event.segment] = heir if share >= HEIR_SHARE else -1
    for segment in heir_of:
        for _ in heir_of:  # an heir may have ended in the same version
            heir_of[segment] = heir_of.get(heir_of[segment], heir_of[segment])
    return heir_of


def _examples(rows: list[bytes], end_rows: list[bytes], version: Version) -> list[_Example]:
    """Rows, and their users' rows at the end of the first day, as a version sees them."""
    assigned = assign(version, decode_rows(rows))
    labels = assign(version, decode_rows(end_rows)).segment.tolist()
    features = np.clip(np.rint(assigned.features * FEATURE_UNITS), -32_768, 32_767).astype("<i2")
    columns = zip(rows, end_rows, features, assigned.segment.tolist(), labels, strict=True)
    return [_Example(row, end, of_row.tobytes(), segment, label) for row, end, of_row, segment, label in columns]
