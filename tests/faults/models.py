"""Pinned model versions: learned beforehand from the stream's own features, so that shoppers do move."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from online_models.learner.learner import Learner, LearnerParams
from online_models.version import Version
from state import features
from tests.build import training_rows
from tests.faults import oracle
from tests.faults.order import UNIT, Applied, Fed, parse
from tests.support.events.squeezed_month import Sent

ROWS = 3_000
HYSTERESIS = 0.1


def learned(records: Sequence[Sent], count: int = 3, k: int = 10) -> list[Version]:
    """Versions 1 to count, each of another start; they carry the state that a learner goes on from."""
    applied = Applied(events=[Fed(i, i, 0, parse(one.value)) for i, one in enumerate(records) if not one.reason])
    found = oracle.history({0: applied})
    rng = np.random.default_rng(len(records))
    some = np.sort(rng.choice(len(found.user), min(ROWS, len(found.user)), replace=False))
    raw = oracle.features(
        oracle.sums(found, found.user[some], found.number[some], found.tau[some] // UNIT), found.hours[some]
    )
    versions = []
    for number in range(1, count + 1):
        n, names = len(raw), list(features.NAMES)
        params = LearnerParams(k, k, n, 10**9, 1 << 60, n, number, features.R, names, HYSTERESIS)
        (version,) = Learner.start(params).learn(training_rows(raw[rng.permutation(len(raw))], found.tau[some]))
        versions.append(msgspec.structs.replace(version, number=number, learned_to=0))
    return versions
