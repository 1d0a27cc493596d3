"""The first-day classifier: from a new user's first minutes, the segment that it is in at the end of its first day.

This is what a version says; online_models/prediction/first_day_learner.py learns it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats
from online_models.prediction.calibration import Calibration
from online_models.prediction.decision_trees import DecisionTrees
from online_models.prediction.side_model import Column, Shoppers, SideLearner, Values
from online_models.segment_ids import NO_SEGMENT
from online_models.training_rows import HOUR_MS, Ints

if TYPE_CHECKING:
    from online_models.version import Version


class FirstDayModel(msgspec.Struct, frozen=True):
    """What the trees say where they are trusted, else that all stay. Each segment has a tree of its own."""

    trusted: bool
    segment: list[int]  # (s,) those with a tree, ascending
    root: list[int]  # (s,) number of its node
    stayed: list[float]  # (s,) share of its rows whose users stayed
    stay: float  # and of all rows, for segments without a tree
    nodes: DecisionTrees
    trees: Calibration  # of what the trees say
    staying: Calibration  # of what the shares say


def predict(model: FirstDayModel, features: Floats, segment: NDArray[np.integer]) -> tuple[Ints, Floats]:
    """The segment (n,) in which each user is a day after its first event, by id, and the probability (n,) of that.

    features (n, F) by the scaler of the model's version, segment (n,) where the users are now, by id. Elementwise.
    """
    if model.trusted:
        label, score = by_trees(model, features, segment)
        return label, model.trees.apply(score)
    return segment.astype(np.int64), model.staying.apply(by_staying(model, segment))


def by_trees(model: FirstDayModel, features: Floats, segment: NDArray[np.integer]) -> tuple[Ints, Floats]:
    """What the trees say, trusted or not: segments (n,) by id, and scores (n,) before calibration."""
    label, score = segment.astype(np.int64), np.full(len(segment), model.stay)
    rows, tree = _with_tree(model, segment)
    if len(rows):
        label[rows], score[rows] = model.nodes.predict(np.array(model.root)[tree], features[rows])
    return label, score


def by_staying(model: FirstDayModel, segment: NDArray[np.integer]) -> Floats:
    """The share (n,) of those who stayed in each one's segment, before calibration."""
    score = np.full(len(segment), model.stay)
    rows, tree = _with_tree(model, segment)
    if len(rows):
        score[rows] = np.array(model.stayed)[tree]
    return score


def _with_tree(model: FirstDayModel, segment: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Which rows are in a segment with a tree, and in which of those."""
    if not model.segment:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    known = np.array(model.segment)
    tree = np.minimum(np.searchsorted(known, segment), len(known) - 1)
    rows = np.flatnonzero(known[tree] == segment)
    return rows, tree[rows]


def check(model: FirstDayModel, width: int, next_id: int) -> None:
    """ValueError, with the reason, where it is not for F = `width` features and segments below next_id."""
    count = len(model.segment)
    if len(model.root) != count or len(model.stayed) != count:
        raise ValueError("first day: columns of different lengths")
    if not all(a < b for a, b in pairwise([-1, *model.segment, next_id])):
        raise ValueError("first day: segments that do not ascend, or that never were")
    if not all(0 <= share <= 1 for share in (model.stay, *model.stayed)):
        raise ValueError("first day: a share that is none")
    if not all(0 <= root < len(model.nodes.feature) for root in model.root):
        raise ValueError("first day: a tree without a root")
    model.nodes.check(width, next_id)
    model.trees.check("first day: trees")
    model.staying.check("first day: staying")


def first_day_end(born: Ints) -> Ints:
    """When a user's first day ends (ms): the user's FIRST_DAY_ROW is sent then."""
    return (born // HOUR_MS + 25) * HOUR_MS


def in_first_day(now: Ints, born: Ints) -> NDArray[np.bool_]:
    """Whose first day has not ended as of now (ms); born (ms) 0 is not known."""
    return (born > 0) & (now < first_day_end(born))


class _FirstDay:
    """The SideModel; stored as `young`."""

    name = "young"
    model = FirstDayModel
    columns = (Column("predicted_segment", np.int32), Column("predicted_probability", np.float32))

    def check(self, model: FirstDayModel, version: Version) -> None:
        check(model, len(version.names), min(version.next_id, 1 << 31))

    # the learner is imported where it is made: River takes a second, which no reader of versions has to pay
    def start(self, ratios: int) -> SideLearner[FirstDayModel]:
        from online_models.prediction.first_day_learner import FirstDayLearner, FirstDayParams

        return FirstDayLearner(FirstDayParams())

    def resume(self, state: bytes, model: FirstDayModel | None, ratios: int) -> SideLearner[FirstDayModel]:
        from online_models.prediction.first_day_learner import FirstDayLearner, FirstDayParams

        return FirstDayLearner.resume(state, FirstDayParams(), model)

    def predict(self, model: FirstDayModel, version: Version, shoppers: Shoppers) -> list[Values]:
        now = np.full(len(shoppers.raw), shoppers.now)
        unknown = ~in_first_day(now, shoppers.born) | (shoppers.segment == NO_SEGMENT)
        label, probability = predict(model, version.scaler.transform(shoppers.raw), shoppers.segment)
        return [Values(label, unknown), Values(probability, unknown)]


FIRST_DAY = _FirstDay()
