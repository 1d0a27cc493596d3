"""What is said of segments that begin and end."""

from __future__ import annotations

import numpy as np

from online_models.lineage import Membership, lineage_events
from online_models.segment_ids import NO_SEGMENT


def people(then: list[int], was: list[int], now: list[int], active: list[bool] | None = None) -> Membership:
    return Membership(np.array(then), np.array(was), np.array(now), np.array(active or [True] * len(now)))


def test_a_segment_of_newcomers_is_born_and_one_out_of_another_split_off() -> None:
    of_new = people([0] * 30 + [NO_SEGMENT] * 20, [0] * 50, [0] * 30 + [5] * 20)
    (born,) = lineage_events(of_new, [0], [0, 5])
    assert (born.event, born.segment, born.parents, born.people) == ("born", 5, [(NO_SEGMENT, 1.0)], 20)
    (split,) = lineage_events(people([0] * 50, [0] * 50, [0] * 30 + [5] * 20), [0], [0, 5])
    assert (split.event, split.parents) == ("split", [(0, 1.0)])
    (unknown,) = lineage_events(people([0] * 8 + [NO_SEGMENT] * 42, [0] * 50, [0] * 30 + [5] * 20), [0], [0, 5])
    assert unknown.event == "born"  # it has no parent, though most people of this shop are new
    (among,) = lineage_events(
        people([0] * 20 + [NO_SEGMENT] * 60, [0] * 80, [5] * 20 + [5] * 22 + [0] * 38), [0], [0, 5]
    )
    assert among.event == "split"


def test_a_segment_whose_people_stay_away_is_retired_and_one_that_goes_over_merged() -> None:
    away = people([1] * 20 + [0] * 40, [1] * 20 + [0] * 40, [0] * 60, [False] * 16 + [True] * 44)
    (retired,) = lineage_events(away, [0, 1], [0])
    assert (retired.event, retired.segment, retired.heirs) == ("retired", 1, [(NO_SEGMENT, 0.8), (0, 0.2)])
    (merged,) = lineage_events(people([1] * 20 + [0] * 40, [1] * 20 + [0] * 40, [0] * 60), [0, 1], [0])
    assert (merged.event, merged.heirs, merged.people) == ("merged", [(0, 1.0)], 20)


def test_the_first_segments_are_born() -> None:
    nobody = [NO_SEGMENT] * 4
    assert [one.event for one in lineage_events(people(nobody, nobody, [0, 0, 1, 1]), [], [0, 1])] == ["born", "born"]
