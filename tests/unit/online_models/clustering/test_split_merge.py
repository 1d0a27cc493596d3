"""The set of segments: what a change of it is worth, which changes are made, and under which ids."""

from __future__ import annotations

import numpy as np
import pytest

from online_models.clustering import proposals
from online_models.clustering.split_merge import PATIENCE, People, Segments, SplitMerge, with_ids


def blobs(at: list[tuple[float, float]], size: int = 60, spread: float = 0.3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([np.array(one) + rng.normal(0, spread, (size, 2)) for one in at])


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
