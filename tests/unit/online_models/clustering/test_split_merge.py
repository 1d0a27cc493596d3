"""What the set of segments is made by: people, what a change of it is worth, which are made, what is said of them."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from online_models.clustering import proposals, scaler
from online_models.clustering.split_merge import PATIENCE, People, Segments, SplitMerge, with_ids
from online_models.learner.panel import HISTORY, Panel
from online_models.lineage import Membership, lineage_events
from online_models.segment_ids import NO_SEGMENT
from online_models.training_rows import TrainingRows
from tests.build import training_rows
from tests.people import DAY, L, R, learned, rows_in_time, users


def blobs(at: list[tuple[float, float]], size: int = 60, spread: float = 0.3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([np.array(one) + rng.normal(0, spread, (size, 2)) for one in at])


# -- lineage


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


# -- the panel


def rows_of(user: np.ndarray, now: list[int], first: float = 0.0) -> TrainingRows:
    raw = np.arange(first, first + len(user) * (2 * R + L), dtype=float).reshape(len(user), -1) + 1
    return replace(training_rows(raw, np.array(now)), user=user)


def test_the_panel_holds_the_newest_row_of_each_person_and_comes_back_as_it_was() -> None:
    who = users(3)
    panel = Panel(2 * R + L, [0.0] * (R + L), 10)
    panel.add(rows_of(who[[0, 1, 0]], [5, 6, 7]), None)
    panel.add(rows_of(who[[2]], [9], 100.0), None)
    assert panel.user.tolist() == who.tolist()
    assert panel.now.tolist() == [7, 6, 9]
    assert panel.raw[:, 0].tolist() == [15.0, 8.0, 101.0]
    again = Panel(2 * R + L, [0.0] * (R + L), 10)
    again.restore(panel.state())
    for one in (panel, again):
        one.add(rows_of(who[[1]], [20], 200.0), None)
    assert msgspec.msgpack.encode(again.state()) == msgspec.msgpack.encode(panel.state())


def test_those_who_stay_away_leave_and_of_many_the_smallest_pseudonyms_stay() -> None:
    who = users(40)
    panel = Panel(2 * R + L, [0.0] * (R + L), 10)
    panel.add(rows_of(who, [0] * 10 + [20 * DAY] * 30), None)
    panel.advance(20 * DAY, 0)
    stay = sorted(who[10:].tolist())[:10]
    assert sorted(panel.user.tolist()) == stay


def test_whom_a_version_moves_was_always_there() -> None:
    """Only what people did is their past: a version that names things anew must not look like people who moved."""
    version = learned(rows_in_time(3, 300))[-1]
    panel = Panel(2 * R + L, [0.0] * (R + L), 100)
    panel.add(rows_in_time(3, 60).take(slice(0, 60)), version)
    for day in range(3):
        panel.advance(day * DAY, 0)
    held = panel.segment.copy()
    other = msgspec.structs.replace(version, ids=[100 + one for one in version.ids])
    panel.reassign(other)
    assert (panel.segment == held + 100).all()
    assert (panel.days_ago() == panel.segment).all()


# -- what a change of the set is worth


def test_people_are_judged_by_centres_that_they_had_no_part_in() -> None:
    lines = blobs([(0, 0), (5, 5)], 20)
    two = np.stack([lines[:20].mean(0), lines[20:].mean(0)])
    judged = proposals.fit(lines, lines[:3], two)
    for i in range(40):
        mine = np.delete(lines[:20] if i < 20 else lines[20:], i % 20, axis=0).mean(0)
        assert judged.distance[i] == pytest.approx(((lines[i] - mine) ** 2).sum())
    assert judged.distance[40:] == pytest.approx(((lines[:3] - two[0]) ** 2).sum(1))


def scene(lines: np.ndarray, was: np.ndarray | None = None) -> People:
    held = np.arange(len(lines)) % 5 == 0
    none = np.zeros(len(lines), np.int64)
    label = none if was is None else was
    return People(lines, np.flatnonzero(~held), np.flatnonzero(held), np.ones(len(lines), bool), label, label)


def test_a_segment_that_is_two_is_split_once_that_has_lasted() -> None:
    lines = blobs([(0, 0), (6, 0), (0, 6)])
    was = np.repeat([0, 0, 7], 60)
    found = Segments(np.array([[3.0, 0.0], [0.0, 6.0]]), [0, 7], 9)
    structure = SplitMerge(2, 5)
    for step in range(3):
        time = step * PATIENCE // 2
        revised = structure.revise(found, scene(lines, was), time, step)
        assert len(revised.ids) == (3 if step >= 2 else 2), step
    assert sorted(revised.ids)[1:] == [7, 9]
    assert revised.next_id == 10
    assert SplitMerge(2, 2).revise(found, scene(lines, was), 0, 0).ids == [0, 7]


def test_two_segments_that_are_one_are_merged_and_the_larger_goes_on() -> None:
    lines = blobs([(0, 0), (6, 0)], 90)
    was = np.r_[np.where(lines[:90, 0] > 0.1, 3, 1), np.full(90, 2)]
    centres = np.stack([lines[was == one].mean(0) for one in (3, 1, 2)])
    structure = SplitMerge(2, 5)
    found = Segments(centres, [3, 1, 2], 4)
    for step in range(2):
        revised = structure.revise(found, scene(lines, was), step * PATIENCE, step)
    assert sorted(revised.ids) == [1, 2]
    assert SplitMerge(3, 5).revise(found, scene(lines, was), 0, 0).ids == [3, 1, 2]


def test_a_segment_that_its_people_left_ends() -> None:
    lines = blobs([(0, 0), (6, 0), (0, 6)])
    then = np.repeat([0, 1, 2], 60)
    left = scene(lines, np.repeat([0, 1, 1], 60))._replace(days_ago=then)
    found = Segments(np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]]), [0, 1, 2], 3)
    assert 2 not in SplitMerge(2, 5).revise(found, left, 0, 0).ids
    kept_up = SplitMerge(3, 5).revise(found, left, 0, 0)  # the bound is kept: another takes its place
    assert (len(kept_up.ids), kept_up.next_id) == (3, 4)
    assert 2 not in kept_up.ids


def test_ids_stay_with_their_people_wherever_centres_lie() -> None:
    lines = blobs([(0, 0), (6, 0), (0, 6)])
    found = Segments(np.zeros((2, 2)), [4, 8], 11)
    moved = with_ids(found, np.array([[0.0, 6.0], [6.0, 0.0], [0.0, 0.0]]), scene(lines, np.repeat([8, 4, 8], 60)))
    assert moved.ids[1] == 4
    assert sorted(moved.ids) == [4, 8, 11]
    assert moved.next_id == 12


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


def test_a_look_a_day_tells_where_people_were() -> None:
    panel = Panel(2 * R + L, [0.0] * (R + L), 100)
    panel.add(rows_of(users(2), [0, 0]), None)
    panel.segment[:] = [1, 2]
    for day in range(HISTORY + 3):
        panel.advance(day * DAY, 0)
        panel.now[:] = day * DAY
        if day == 2:
            panel.segment[0] = 9
    assert panel.days_ago().tolist() == [9, 2]


def test_those_who_come_stay_in_a_panel_that_is_too_small() -> None:
    who = users(60)
    panel = Panel(2 * R + L, [0.0] * (R + L), 10)
    order = np.argsort(who.view(">u8").reshape(-1, 2)[:, 0])
    panel.add(rows_of(who[order], [0] * 50 + [8 * DAY] * 10), None)
    panel.advance(8 * DAY, 0)
    assert panel.active(8 * DAY).all()
