"""When a retrain is due."""

from __future__ import annotations

import doctest
from itertools import pairwise

import numpy as np
import pytest

from online_models.encoder import drift
from online_models.encoder.drift import Drift


def errors(seed: int, n: int) -> np.ndarray:
    """As of a day and night that differ: 1% of them above 0.6 or so."""
    hour = np.arange(n) % 1_000 / 1_000 * 2 * np.pi
    return np.random.default_rng(seed).gamma(2.0, 0.1, n) * (1 + 0.1 * np.sin(hour))


@pytest.mark.parametrize("seed", range(4))
def test_shoppers_as_before_are_no_reason(seed: int) -> None:
    watch = Drift(far=0.65)
    watch.learn(errors(seed, 20_000))
    watch.learn(errors(seed + 9, 5_000) * 0.7)  # the encoder does better than it did
    assert watch.due == []


def test_worse_reconstruction_is_a_reason_whatever_the_cuts() -> None:
    values = np.r_[errors(1, 5_000), 1.5 * errors(2, 1_000)]
    told = set()
    for cuts in ([], [1, 2, 4_999, 5_000, 5_900], list(range(0, 6_000, 7))):
        watch = Drift(far=0.65)
        for a, b in pairwise([0, *cuts, len(values)]):
            watch.learn(values[a:b])
        told.add(tuple(watch.due))
    ((reason, *_),) = told
    assert reason.startswith("reconstruction error rose from 0.2")
    watch.learn(errors(3, 20_000) * 0.5)  # they are gone again
    assert watch.due == []


def test_a_few_who_are_far_off_are_a_reason() -> None:
    watch = Drift(far=1.0)
    values = np.where(np.random.default_rng(1).random(8_000) < 0.01, 3.0, 0.3)
    watch.learn(values)
    assert watch.due == []
    values = np.where(np.random.default_rng(2).random(4_000) < 0.06, 1.2, 0.26)  # the mean is as before
    watch.learn(values)
    assert [reason.split(" rose")[0] for reason in watch.due] == ["share of far-off rows"]


def test_the_example_in_its_docstring() -> None:
    assert doctest.testmod(drift).failed == 0
