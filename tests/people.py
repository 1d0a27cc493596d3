"""Records of people of some kinds, in a space of few features, for tests of the learner and of its parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from online_models.learner.learner import Learner, LearnerParams
from online_models.training_rows import TrainingRows
from online_models.version import Version
from tests.build import training_rows

DAY = 86_400_000
HOUR = 3_600_000
R, L = 2, 3
NAMES = [f"f{i}" for i in range(R + L)]
PARAMS = LearnerParams(2, 9, 300, 150, 1 << 60, 5_000, 1, R, NAMES, 0.15)


def users(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 16), dtype=np.uint8).view("V16")[:, 0]


def rows_in_time(kinds: int, n: int, new_from: int | None = None) -> TrainingRows:
    """n rows, half an hour apart, of 300 people of some kinds; from a row on every third is of 75 others."""
    rng = np.random.default_rng(0)
    who, at = users(375), rng.uniform(-6, 6, (9, L))
    person = rng.integers(0, 300, n)
    kind = person % kinds
    if new_from is not None:
        late = np.arange(new_from, n, 3)
        person[late], kind[late] = rng.integers(300, 375, len(late)), kinds
    raw = np.c_[np.ones((n, 2 * R)), at[kind] + rng.normal(0, 0.4, (n, L))]
    return replace(training_rows(raw, np.arange(n) * HOUR // 2), user=who[person])


def learned(rows: TrainingRows, params: LearnerParams = PARAMS) -> list[Version]:
    return Learner.start(params).learn(rows)
