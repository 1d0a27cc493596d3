"""New users: from the first minutes, the segment that a user stands in a day later. What a version says of it."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats
from online_models.prediction.calibration import Calibration
from online_models.prediction.decision_trees import Nodes
from online_models.training_rows import Ints

HOUR_MS = 3_600_000


class YoungModel(msgspec.Struct, frozen=True):
    """What the trees say where they are trusted, else that all stay. Each segment has a tree of its own."""

    trusted: bool
    segment: list[int]  # (s,) those with a tree, ascending
    root: list[int]  # (s,) its node
    stayed: list[float]  # (s,) share of its rows whose users stayed
    stay: float  # and of all rows, for segments without a tree
    nodes: Nodes
    trees: Calibration  # of what the trees say
    staying: Calibration  # of what the shares say


def predict(model: YoungModel, features: Floats, segment: NDArray[np.integer]) -> tuple[Ints, Floats]:
    """The segment (n,) in which each user is a day after its first event, by id, and the probability (n,) of that.

    features (n, F) by the scaler of the model's version, segment (n,) where the users stand now, by id. Elementwise.
    """
    if model.trusted:
        label, score = by_trees(model, features, segment)
        return label, model.trees.apply(score)
    return segment.astype(np.int64), model.staying.apply(by_staying(model, segment))


def by_trees(model: YoungModel, features: Floats, segment: NDArray[np.integer]) -> tuple[Ints, Floats]:
    """What the trees say, trusted or not, before calibration."""
    label, score = segment.astype(np.int64), np.full(len(segment), model.stay)
    found, at = _known(model, segment)
    if len(found):
        label[found], score[found] = model.nodes.ask(np.array(model.root)[at], features[found])
    return label, score


def by_staying(model: YoungModel, segment: NDArray[np.integer]) -> Floats:
    """The share (n,) of those who stayed in each one's segment, before calibration."""
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


def check(model: YoungModel, width: int, next_id: int) -> None:
    """ValueError, with the reason, where it is not for features of this width and segments below next_id."""
    count = len(model.segment)
    if len(model.root) != count or len(model.stayed) != count:
        raise ValueError("young: columns of different lengths")
    if not all(a < b for a, b in pairwise([-1, *model.segment, next_id])):
        raise ValueError("young: segments that do not ascend, or that never were")
    if not all(0 <= share <= 1 for share in (model.stay, *model.stayed)):
        raise ValueError("young: a share that is none")
    if not all(0 <= root < len(model.nodes.feature) for root in model.root):
        raise ValueError("young: a tree without a root")
    model.nodes.check(width, next_id)
    model.trees.check("young: trees")
    model.staying.check("young: staying")


def day_end(born: Ints) -> Ints:
    """When a user's first day ends (ms): DAY is sent then (streams/training.py)."""
    return (born // HOUR_MS + 25) * HOUR_MS


def is_young(now: Ints, born: Ints) -> NDArray[np.bool_]:
    """Whose first day has not ended as of now (ms); born (ms) 0 is not known."""
    return (born > 0) & (now < day_end(born))
