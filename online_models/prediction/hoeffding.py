"""River's Hoeffding adaptive tree without its random draws, and its nodes as arrays."""

from __future__ import annotations

from typing import Any

from river.tree import HoeffdingAdaptiveTreeClassifier
from river.tree.nodes.branch import DTBranch
from river.tree.nodes.hatc_nodes import AdaLeafClassifier
from river.tree.nodes.htc_nodes import LeafMajorityClass, LeafNaiveBayesAdaptive

from online_models.prediction.decision_trees import DecisionTrees

GRACE, DELTA, TAU, DEPTH = 50, 0.01, 0.15, 8  # measured: python -m tests.bench.young


class _CountingLeaf(LeafNaiveBayesAdaptive):
    """Keeps no score of naive Bayes, which leaves of majorities never ask for: a third of the time to learn."""

    def learn_one(self, x: dict[int, float], y: int, *, w: float = 1.0, tree: Any = None) -> None:
        LeafMajorityClass.learn_one(self, x, y, w=w, tree=tree)


class _Leaf(AdaLeafClassifier, _CountingLeaf):
    def prediction(self, x: dict[int, float], *, tree: Any = None) -> dict[int, float] | None:
        """River's, to the bit, without its deep copies: another third."""
        if not self.stats:
            return None
        share, error = _scaled(self.stats, sum(self.stats.values())), self._mean_error.get()
        return _scaled(share, sum(share.values()) * error * error)


def _scaled(weights: dict[int, float], by: float) -> dict[int, float]:
    multiplier = 1 / by if by > 0 else 1.0
    return {label: weight * multiplier for label, weight in weights.items()}


class Tree(HoeffdingAdaptiveTreeClassifier):
    """Bifet and Gavalda 2009, with leaves of majorities and without bootstrap: equal rows give equal trees."""

    def __init__(
        self,
        grace_period: int = GRACE,
        delta: float = DELTA,
        tau: float = TAU,
        max_depth: int | None = DEPTH,
        split_criterion: str = "gini",
    ) -> None:
        super().__init__(
            grace_period=grace_period,
            delta=delta,
            tau=tau,
            max_depth=max_depth,
            split_criterion=split_criterion,
            leaf_prediction="mc",
            bootstrap_sampling=False,
            seed=0,
        )

    def _new_leaf(self, initial_stats: dict[int, float] | None = None, parent: Any = None) -> _Leaf:
        depth = 0 if parent is None else parent.depth + 1
        detector = self.drift_detector.clone()
        return _Leaf(stats=initial_stats or {}, depth=depth, splitter=self.splitter, drift_detector=detector, rng=None)


def add_tree(nodes: DecisionTrees, tree: Tree) -> int:
    """Add the nodes of a tree that has learned something; the number of its root.

    River adds up what the leaves of alternate subtrees on the way say, each by one over its squared error; that sum
    does not depend on the row, so it is the leaf's here.
    """
    return _add(nodes, tree, tree._root, [])


def _add(nodes: DecisionTrees, tree: Tree, node: Any, alternates: list[Any]) -> int:
    """Add a node and all below it; alternates: leaves of the alternate subtrees on the way to it."""
    if not isinstance(node, DTBranch):
        return nodes.add_leaf(*_likeliest(tree, [*alternates, node]))
    other = node._alternate_tree  # a branch only where River cannot predict either (it fails)
    if other is not None and not isinstance(other, DTBranch):
        alternates = [*alternates, other]
    number = nodes.add_branch(int(node.feature), float(node.threshold))
    nodes.left[number], nodes.right[number] = (_add(nodes, tree, child, alternates) for child in node.children)
    return number


def _likeliest(tree: Tree, leaves: list[Any]) -> tuple[int, float]:
    """The likeliest label of some leaves together, of equals the lowest, and how likely it is."""
    total: dict[int, float] = {}
    for leaf in leaves:
        for label, weight in (leaf.prediction({}, tree=tree) or {}).items():
            total[label] = total.get(label, 0.0) + weight
    whole = sum(total.values())
    best = min(total, key=lambda label: (-total[label], label))
    return int(best), float(total[best] / whole)
