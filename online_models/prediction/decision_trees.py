"""Decision trees as arrays: what is left of River's for who only asks."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.distances import Floats
from online_models.training_rows import Ints

NO_BRANCH = -1


class Nodes(msgspec.Struct):
    """Nodes of several trees, m in all; a branch goes left where the feature is at most the threshold."""

    feature: list[int] = []  # NO_BRANCH: a leaf
    threshold: list[float] = []
    left: list[int] = []  # of a leaf: itself
    right: list[int] = []
    label: list[int] = []  # of a leaf: its likeliest class, the lower of equals
    probability: list[float] = []  # and how likely that is

    def leaf(self, label: int, probability: float) -> int:
        """Its number."""
        return self._add(NO_BRANCH, 0.0, label, probability)

    def branch(self, feature: int, threshold: float) -> int:
        """Its number; where it leads is for the caller to say, once those nodes are there."""
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

    def check(self, width: int, labels: int) -> None:
        """ValueError, with the reason, where a walk over lines of this width could leave the nodes or never end, or
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
                    raise ValueError(f"nodes: leaf {number} says what cannot be")
            elif not 0 <= feature < width:
                raise ValueError(f"nodes: {number} asks for feature {feature} of {width}")
            elif not (number < left < size and number < right < size and label == NO_BRANCH):
                raise ValueError(f"nodes: the branches of {number} do not come after it")
