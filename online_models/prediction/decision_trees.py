"""Decision trees as arrays: what is left of River's trees for those who only predict."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats
from online_models.training_rows import Ints

NO_BRANCH = -1


class DecisionTrees(msgspec.Struct):
    """The nodes of several trees, m in all; a branch goes left where the feature is at most the threshold."""

    feature: list[int] = []  # NO_BRANCH: a leaf
    threshold: list[float] = []
    left: list[int] = []  # of a leaf: itself
    right: list[int] = []
    label: list[int] = []  # of a leaf: its likeliest class, the lower of equals
    probability: list[float] = []  # and how likely that is

    def add_leaf(self, label: int, probability: float) -> int:
        """The number of the new leaf."""
        return self._add(NO_BRANCH, 0.0, label, probability)

    def add_branch(self, feature: int, threshold: float) -> int:
        """The number of the new branch. The caller sets `left` and `right`, once the nodes it leads to are there."""
        return self._add(feature, threshold, NO_BRANCH, 0.0)

    def _add(self, feature: int, threshold: float, label: int, probability: float) -> int:
        number = len(self.feature)
        for own in (self.left, self.right):
            own.append(number)
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.label.append(label)
        self.probability.append(probability)
        return number

    def predict(self, root: Ints, features: Floats) -> tuple[NDArray[np.int64], Floats]:
        """Label and probability (n,) of features (n, F), each row from its root (n,); elementwise.

        >>> trees = DecisionTrees()
        >>> root = trees.add_branch(feature=0, threshold=1.5)
        >>> trees.left[root], trees.right[root] = trees.add_leaf(7, 0.75), trees.add_leaf(8, 0.5)
        >>> label, probability = trees.predict(np.array([root, root]), np.array([[1.0], [2.0]]))
        >>> label.tolist(), probability.tolist()
        ([7, 8], [0.75, 0.5])
        """
        feature, threshold = np.array(self.feature), np.array(self.threshold)
        left, right = np.array(self.left), np.array(self.right)
        node = np.array(root)
        inside = np.flatnonzero(feature[node] != NO_BRANCH)  # rows that have not reached a leaf
        while len(inside):
            here = node[inside]
            goes_left = features[inside, feature[here]] <= threshold[here]
            node[inside] = np.where(goes_left, left[here], right[here])
            inside = inside[feature[node[inside]] != NO_BRANCH]
        return np.array(self.label)[node], np.array(self.probability)[node]

    def check(self, width: int, labels: int) -> None:
        """ValueError, with the reason, where a walk over F = `width` features could leave the nodes or never end, or
        where a leaf's label is not below `labels`."""
        size = len(self.feature)
        columns = (self.threshold, self.left, self.right, self.label, self.probability)
        if any(len(column) != size for column in columns):
            raise ValueError("nodes: columns of different lengths")
        if not np.isfinite([*self.threshold, *self.probability]).all():
            raise ValueError("nodes: a threshold or a probability that is no finite number")
        for number, (feature, left, right) in enumerate(zip(self.feature, self.left, self.right, strict=True)):
            label, probability = self.label[number], self.probability[number]
            if feature == NO_BRANCH:
                if not (0 <= label < labels and 0 <= probability <= 1 and left == right == number):
                    raise ValueError(f"nodes: leaf {number} has an impossible label, probability or branch")
            elif not 0 <= feature < width:
                raise ValueError(f"nodes: {number} asks for feature {feature} of {width}")
            elif not (number < left < size and number < right < size and label == NO_BRANCH):
                # children come after their branch, so that no walk is endless
                raise ValueError(f"nodes: the branches of {number} do not come after it")
