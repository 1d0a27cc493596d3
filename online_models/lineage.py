"""What became of segments from one version to the next: born, split, merged or retired, by where their people are."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.segment_ids import NO_SEGMENT
from online_models.training_rows import Ints

MOST = 0.5  # share of a segment's people that has to be new for it to be born, or gone for it to be retired
TIMES_ELSEWHERE = 2.0  # and so many times the share elsewhere: in some shops most people are new
SPLIT_SHARE = 0.15  # of a new segment's people that have to come from one segment for it to have split off there
FEW = 10  # people that have to be known from days ago; with fewer, those of the version before tell what became of it


class Lineage(msgspec.Struct, frozen=True):
    """One event in the life of a segment; shares are of panel members, -1 stands for people in no segment before."""

    event: str  # born, split, merged, retired; restored by a rollback
    segment: int  # born, split: the new one; merged, retired: the one that ends
    parents: list[tuple[int, float]] = []  # born, split: segments its people were in before, with their shares
    heirs: list[tuple[int, float]] = []  # merged, retired: segments its people are in now, with their shares
    people: int = 0  # panel members it is about


class Membership(msgspec.Struct, frozen=True):
    """Segments of n panel members, columns (n,); NO_SEGMENT where there was none."""

    days_ago: Ints
    before: Ints  # under the version before
    now: Ints  # under the new one
    active: NDArray[np.bool_]  # came within a week


def lineage_events(members: Membership, before: Sequence[int], after: Sequence[int]) -> list[Lineage]:
    """What a version with the segments `after` did to those of `before`; ids.

    A new segment was born where most of its people are new, and twice as many as elsewhere, or where its people come
    from everywhere; else it split off the segment that most of them were in. One that ended was retired where most of
    its people do not come any more, and twice as many as elsewhere, or none does; else it was merged into where most
    are.
    """
    begun = [_begun(members, segment, first=not before) for segment in sorted(set(after) - set(before))]
    return begun + [_ended(members, segment) for segment in sorted(set(before) - set(after))]


def _begun(members: Membership, segment: int, first: bool) -> Lineage:
    inside = members.active & (members.now == segment)
    outside = members.active & ~inside
    unknown = members.days_ago == NO_SEGMENT
    parents = shares(members.days_ago[inside])
    known = [share for parent, share in parents if parent != NO_SEGMENT]
    newcomers = dict(parents).get(NO_SEGMENT, 0.0)
    mostly_new = newcomers >= MOST and newcomers >= TIMES_ELSEWHERE * _share(unknown, outside)
    scattered = not known or known[0] < max(SPLIT_SHARE, (1.0 - newcomers) / 3)
    event = "born" if first or mostly_new or scattered else "split"
    return Lineage(event, segment, parents=parents, people=int(np.count_nonzero(inside)))


def _ended(members: Membership, segment: int) -> Lineage:
    inside = members.days_ago == segment
    if np.count_nonzero(inside) < FEW:
        inside = members.before == segment
    outside = (members.days_ago != NO_SEGMENT) & ~inside
    gone = _share(~members.active, inside)
    mostly_gone = gone >= MOST and gone >= TIMES_ELSEWHERE * _share(~members.active, outside)
    heirs = shares(np.where(members.active, members.now, NO_SEGMENT)[inside])
    all_gone = all(heir == NO_SEGMENT for heir, _ in heirs)
    event = "retired" if mostly_gone or all_gone else "merged"
    return Lineage(event, segment, heirs=heirs, people=int(np.count_nonzero(inside)))


def _share(some: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    """Share of `some` among those `among`; 0 where there are none."""
    return int(np.count_nonzero(some & among)) / max(1, int(np.count_nonzero(among)))


def shares(segment: Ints) -> list[tuple[int, float]]:
    """Each segment's share of n people (n,), the largest first, of equals the lower id.

    >>> shares(np.array([4, 4, 2]))
    [(4, 0.6667), (2, 0.3333)]
    """
    ids, count = np.unique(segment, return_counts=True)
    order = np.lexsort((ids, -count))
    return [(int(ids[place]), round(int(count[place]) / len(segment), 4)) for place in order]
