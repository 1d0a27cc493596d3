"""What became of segments from one version to the next."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.training_rows import Ints

NOWHERE = -1
MOSTLY = 0.5  # of a segment's people, from which on they are new, or gone
TWICE = 2.0  # and so many times as many as elsewhere: in some shops most people are new
FROM = 0.15  # of its people that come from one segment, for it to have split off there
FEW = 10  # people, below which a segment is told of by those that it had last


class Lineage(msgspec.Struct, frozen=True):
    """One event in the life of a segment; shares are of panel members, -1 stands for people in no segment before."""

    event: str  # born, split, merged, retired; restored by a rollback
    segment: int  # born, split: the new one; merged, retired: the one that ends
    parents: list[tuple[int, float]] = []  # born, split: where its people were before, and the share of its people
    heirs: list[tuple[int, float]] = []  # merged, retired: where its people are now, and the share of its people
    people: int = 0  # panel members it is about


class People(msgspec.Struct, frozen=True):
    """n panel members, columns (n,): segments, NOWHERE where there was none."""

    then: Ints  # some days ago
    was: Ints  # under the version before
    now: Ints  # under the new one
    active: NDArray[np.bool_]  # came within a week


def tell(people: People, before: Sequence[int], after: Sequence[int]) -> list[Lineage]:
    """What a version with the segments `after` did to those of `before`.

    A new segment was born where most of its people are new, and twice as many as elsewhere, or where its people come
    from everywhere; else it split off the segment that most of them were in. One that ended was retired where most of
    its people do not come any more, and twice as many as elsewhere, or none does; else it was merged into where most
    are.
    """
    out = [_begun(people, new, not before) for new in sorted(set(after) - set(before))]
    return out + [_ended(people, old) for old in sorted(set(before) - set(after))]


def _begun(people: People, segment: int, first: bool) -> Lineage:
    mine = people.active & (people.now == segment)
    others = people.active & ~mine
    new = people.then == NOWHERE
    parents = shares(people.then[mine])
    known = [share for ident, share in parents if ident != NOWHERE]
    newcomers = dict(parents).get(NOWHERE, 0.0)
    came = newcomers >= MOSTLY and newcomers >= TWICE * _part(new, others)
    scattered = not known or known[0] < max(FROM, (1.0 - newcomers) / 3)
    return Lineage(
        "born" if first or came or scattered else "split", segment, parents=parents, people=int(np.count_nonzero(mine))
    )


def _ended(people: People, segment: int) -> Lineage:
    mine = people.then == segment
    if np.count_nonzero(mine) < FEW:
        mine = people.was == segment
    others = (people.then != NOWHERE) & ~mine
    lost = _part(~people.active, mine)
    away = lost >= MOSTLY and lost >= TWICE * _part(~people.active, others)
    heirs = shares(np.where(people.active, people.now, NOWHERE)[mine])
    nobody = all(ident == NOWHERE for ident, _ in heirs)
    return Lineage(
        "retired" if away or nobody else "merged", segment, heirs=heirs, people=int(np.count_nonzero(mine))
    )


def _part(some: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    """Share of `some` among those `of`."""
    return int(np.count_nonzero(some & of)) / max(1, int(np.count_nonzero(of)))


def shares(segment: Ints) -> list[tuple[int, float]]:
    """Each segment's share, the largest first."""
    found, count = np.unique(segment, return_counts=True)
    order = np.lexsort((found, -count))
    return [(int(found[i]), round(int(count[i]) / len(segment), 4)) for i in order]
