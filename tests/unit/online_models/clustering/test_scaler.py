"""What lasts in a person weighs more than what comes and goes."""

from __future__ import annotations

import numpy as np

from online_models.clustering import scaler
from tests.people import L, R


def test_what_comes_and_goes_in_a_person_weighs_less() -> None:
    rng = np.random.default_rng(1)
    lasting, passing = rng.normal(0, 1, 400), rng.normal(0, 1, (2, 400))
    raw = np.zeros((400, 2 * R + L))
    raw[:, 2 * R], raw[:, 2 * R + 1] = lasting, passing[0]
    fitted = scaler.fit(raw, R)
    change = np.zeros(R + L)
    change[R + 1] = ((passing[0] - passing[1]) ** 2).sum() / 2
    weight = scaler.weigh(fitted, raw, 400.0, change).weight
    assert weight[R] > 0.99
    assert weight[R + 1] < 0.3
    assert scaler.weigh(fitted, raw, 0.0, change).weight == [1.0] * (R + L)
