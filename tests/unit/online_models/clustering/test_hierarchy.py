"""Super-segments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.clustering.hierarchy import FEW, MOST, family_count, siblings, super_segments


def test_families_that_lie_apart_are_found_and_named_after_their_largest_segment() -> None:
    centres = np.array([[0.0, 0], [9, 0], [0, 1], [9, 1], [0, 9], [9.5, 0.5]])
    ids, weights = [4, 7, 11, 2, 30, 8], [0.1, 0.2, 0.3, 0.05, 0.15, 0.2]
    found = super_segments(ids, centres, weights, 3)
    assert found == [11, 7, 11, 7, 30, 7]  # 7 and 8 are as large: the smaller id
    assert siblings(ids, found) == {4: [11], 7: [2, 8], 11: [4], 2: [7, 8], 30: [], 8: [2, 7]}


def cost(centres: np.ndarray, weights: np.ndarray, of: list[int]) -> float:
    """Squared distance of all people to the means of their families."""
    total = 0.0
    for family in set(of):
        mine = np.array(of) == family
        mean = np.average(centres[mine], axis=0, weights=weights[mine])
        total += float((weights[mine] * ((centres[mine] - mean) ** 2).sum(1)).sum())
    return total


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(4, 7))
def test_the_first_merge_is_the_cheapest_in_peoples_distance(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    centres, people = rng.normal(size=(k, 3)), rng.integers(1, 60, k)
    people[0] += 256 - people.sum() if people.sum() < 256 else 0
    weights = np.maximum(1, np.rint(people / people.sum() * 256))  # in units, as they are weighed
    found = super_segments(list(range(k)), centres, (people / people.sum()).tolist(), k - 1)
    tried = []
    for a, b in itertools.combinations(range(k), 2):
        of = list(range(k))
        of[b] = a
        tried.append(cost(centres, weights, of))
    assert cost(centres, weights, found) == pytest.approx(min(tried))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(1, 40))
def test_each_family_bears_the_id_of_a_segment_of_its_own_whatever_the_order(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.choice(1_000, k, replace=False).tolist()
    centres, weights = rng.normal(size=(k, 4)), rng.dirichlet(np.ones(k)).tolist()
    found = dict(zip(ids, super_segments(ids, centres, weights), strict=True))
    assert all(found[family] == family for family in found.values())
    assert len(set(found.values())) == family_count(k)
    share = dict(zip(ids, weights, strict=True))
    assert all(share[family] >= share[one] for one, family in found.items())
    other = rng.permutation(k)
    again = super_segments([ids[i] for i in other], centres[other], [weights[i] for i in other])
    assert dict(zip([ids[i] for i in other], again, strict=True)) == found


def test_people_decide_what_is_near() -> None:
    # a few far-off shoppers cost less to join to their nearest than two large segments to each other
    centres = np.array([[0.0], [4.0], [12.0], [13.0]])
    assert super_segments([0, 1, 2, 3], centres, [0.48, 0.48, 0.02, 0.02], 2) == [0, 1, 1, 1]
    assert super_segments([0, 1, 2, 3], centres, [0.25, 0.25, 0.25, 0.25], 2) == [0, 0, 2, 2]


def test_how_many() -> None:
    assert [family_count(k) for k in (1, 2, FEW, 4, 8, 12, 20, 256)] == [1, 2, FEW, 2, 3, 3, 4, MOST]


def test_where_there_is_little_to_tell() -> None:
    assert super_segments([5], np.zeros((1, 2)), [1.0]) == [5]
    assert super_segments([5, 6, 9], np.eye(3), [0.2, 0.3, 0.5]) == [5, 6, 9]
    same = super_segments([3, 1, 2, 4, 5], np.zeros((5, 2)), [0.0] * 5, 1)
    assert same == [1] * 5
    with pytest.raises(ValueError, match="2 ids"):
        super_segments([1, 2], np.eye(3), [0.5, 0.5])
    with pytest.raises(ValueError, match="one family"):
        super_segments([1, 2], np.eye(2), [0.5, 0.5], 0)
