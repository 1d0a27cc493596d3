"""River's Hoeffding adaptive tree without its draws, and what is left of it for who only asks: arrays."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from river.tree import HoeffdingAdaptiveTreeClassifier
from river.tree.nodes.branch import DTBranch
from river.tree.nodes.hatc_nodes import AdaLeafClassifier
from river.tree.nodes.htc_nodes import LeafMajorityClass, LeafNaiveBayesAdaptive

from online_models.nearest import Floats
from online_models.rows import Ints

GRACE, DELTA, TAU, DEPTH = 50, 0.01, 0.15, 8  # measured: python -m tests.bench.young
NO_BRANCH = -1


class _Counts(LeafNaiveBayesAdaptive):
    """Keeps no score of naive Bayes, which leaves of majorities never ask for: a third of the time to learn."""

    def learn_one(self, x: dict[int, float], y: int, *, w: float = 1.0, tree: Any = None) -> None:
        LeafMajorityClass.learn_one(self, x, y, w=w, tree=tree)


class _Leaf(AdaLeafClassifier, _Counts):
    def prediction(self, x: dict[int, float], *, tree: Any = None) -> dict[int, float] | None:
        """River's, to the bit, without its deep copies: another third."""
        if not self.stats:
            return None
        share, error = _divided(self.stats, sum(self.stats.values())), self._mean_error.get()
        return _divided(share, sum(share.values()) * error * error)


def _divided(weights: dict[int, float], by: float) -> dict[int, float]:
    multiplier = 1 / by if by > 0 else 1.0
    return {label: weight * multiplier for label, weight in weights.items()}


class Tree(HoeffdingAdaptiveTreeClassifier):
    """Bifet and Gavalda 2009, with leaves of majorities and without bootstrap: equal rows give equal trees."""

    def __init__(
        self, grace_period: int = GRACE, delta: float = DELTA, tau: float = TAU, max_depth: int | None = DEPTH,
        split_criterion: str = "gini",
    ) -> None:  # fmt: skip
        super().__init__(
            grace_period=grace_period, delta=delta, tau=tau, max_depth=max_depth, split_criterion=split_criterion,
            leaf_prediction="mc", bootstrap_sampling=False, seed=0,
        )  # fmt: skip

    def _new_leaf(self, initial_stats: dict[int, float] | None = None, parent: Any = None) -> _Leaf:
        depth = 0 if parent is None else parent.depth + 1
        detector = self.drift_detector.clone()
        return _Leaf(stats=initial_stats or {}, depth=depth, splitter=self.splitter, drift_detector=detector, rng=None)


class Nodes(msgspec.Struct):
    """Nodes of several trees, m in all; a branch goes left where the feature is at most the threshold."""

    feature: list[int] = []  # NO_BRANCH: a leaf
    threshold: list[float] = []
    left: list[int] = []
    right: list[int] = []
    label: list[int] = []  # of a leaf: its likeliest class, the lower of equals
    probability: list[float] = []  # and how likely that is

    def leaf(self, label: int, probability: float) -> int:
        """Its number."""
        return self._add(NO_BRANCH, 0.0, label, probability)

    def grow(self, tree: Tree) -> int:
        """The nodes of a tree that has learned something; the number of its root.

        River adds up what the leaves of alternate subtrees on the way say, each by one over its squared error; that
        sum does not depend on the row, so it is the leaf's here.
        """
        return self._grow(tree, tree._root, [])

    def _grow(self, tree: Tree, node: Any, beside: list[Any]) -> int:
        if not isinstance(node, DTBranch):
            return self.leaf(*_answer(tree, [*beside, node]))
        other = node._alternate_tree  # a branch only where River cannot answer either (it fails)
        if other is not None and not isinstance(other, DTBranch):
            beside = [*beside, other]
        number = self._add(int(node.feature), float(node.threshold), NO_BRANCH, 0.0)
        self.left[number] = self._grow(tree, node.children[0], beside)
        self.right[number] = self._grow(tree, node.children[1], beside)
        return number

    def _add(self, feature: int, threshold: float, label: int, probability: float) -> int:
        number = len(self.feature)
        for own in (self.left, self.right):
            own.append(number)
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.label.append(label)
        self.probability.append(probability)
        return number

    def ask(self, root: Ints, lines: Floats) -> tuple[NDArray[np.int64], Floats]:
        """Label and probability (n,) of lines (n, F), each from its root (n,); elementwise."""
        feature, threshold = np.array(self.feature), np.array(self.threshold)
        left, right = np.array(self.left), np.array(self.right)
        at = np.array(root)
        going = np.flatnonzero(feature[at] != NO_BRANCH)
        while len(going):
            here = at[going]
            low = lines[going, feature[here]] <= threshold[here]
            at[going] = np.where(low, left[here], right[here])
            going = going[feature[at[going]] != NO_BRANCH]
        return np.array(self.label)[at], np.array(self.probability)[at]


def _answer(tree: Tree, leaves: list[Any]) -> tuple[int, float]:
    total: dict[int, float] = {}
    for leaf in leaves:
        for label, weight in (leaf.prediction({}, tree=tree) or {}).items():
            total[label] = total.get(label, 0.0) + weight
    whole = sum(total.values())
    best = min(total, key=lambda label: (-total[label], label))
    return int(best), float(total[best] / whole)
