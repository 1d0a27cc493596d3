"""Measures that are known: a contender that knows the truth, one that knows nothing, a lineage that is right."""

from __future__ import annotations

import numpy as np
import pytest

from online_models.lineage import Lineage
from state import features
from tests.quality import lineages, measures, planted, played
from tests.quality.kinds import NOBODY
from tests.quality.measures import Labels
from tests.quality.planted import DAY, START, Planted
from tests.quality.played import Data
from tests.quality.worker import Seen


def given(made: Planted) -> Data:
    """Everyone is there and active from the first day; features play no part."""
    times = played.times_of(made)
    last = np.repeat(times[:, None], made.users, 1)
    raw = np.zeros((len(times), made.users, 2 * features.R + len(features.PLAIN)))
    nothing = played.taught(made, [], [], 0, played.deployment())
    return Data(made, nothing, times, np.zeros(len(times), np.int64), raw, last)


def truth(data: Data) -> np.ndarray:
    return np.array([data.planted.kind_at(now) for now in data.times.tolist()])


def test_the_truth_has_an_index_of_one_and_chance_of_none() -> None:
    data = given(planted.shop(4, users=300, days=20))
    right = measures.measures(data, Labels(truth(data), again=truth(data), before=truth(data)))
    assert right["end"] == right["prequential"] == right["switchers"] == 1.0
    assert right["found_after"] <= 1.0
    drawn = np.random.default_rng(1).integers(0, 10, truth(data).shape)
    chance = measures.measures(data, Labels(drawn))
    assert abs(chance["prequential"]) < 0.05
    assert chance["switchers"] < 0.4
    assert chance["found_after"] == float("inf")


def test_what_is_behind_is_seen_to_be() -> None:
    data = given(planted.shop(4, users=300, days=20))
    old = np.broadcast_to(truth(data)[10], truth(data).shape)  # before anybody changes
    behind = measures.measures(data, Labels(old))
    assert behind["switchers"] < 0.1
    assert behind["end"] < 1.0


def test_churn_counts_lines_that_a_model_moved() -> None:
    data = given(planted.shop(4, users=300, days=20))
    now = np.zeros_like(truth(data))
    again = now.copy()
    again[:, :30] = 1  # a tenth
    found = measures.measures(data, Labels(now, again=again, before=again))
    assert found["churn_day"] == pytest.approx(0.1)


def _seen(made: Planted, events: bool) -> Seen:
    """A learner whose segments are the kinds; a day after each change it says so, or it says nothing."""
    times = played.times_of(made).tolist()
    seen = Seen(times, [made.kind_at(now - DAY) for now in times])
    for change in made.changes if events else ():
        other = [] if change.other == NOBODY else [(change.other, 1.0)]
        parents, heirs = (other, []) if change.event in ("born", "split") else ([], other)
        said = Lineage(change.event, change.kind, parents, heirs)
        seen.versions.append((START + int((change.day + 1.0) * DAY), [said]))
    return seen


def test_lineage_is_named_missed_and_invented() -> None:
    made = planted.changing(3, users=600, days=40)
    right = lineages.score(made, _seen(made, events=True))
    assert (right.named, right.invented, right.missed) == (8, 0, [])
    silent = lineages.score(made, _seen(made, events=False))
    assert (silent.named, silent.invented, len(silent.missed)) == (0, 0, 8)
    loud = _seen(made, events=True)
    loud.versions.append((START + 25 * DAY, [Lineage("split", 2, [(8, 1.0)])]))
    loud.versions.append((START + 2 * DAY, [Lineage("born", 2)]))  # it is still warming up
    assert lineages.score(made, loud).invented == 1
    wrong = _seen(made, events=True)
    wrong.versions = [(came, [Lineage("born", said[0].segment)]) for came, said in wrong.versions]
    assert lineages.score(made, wrong).named == 2
