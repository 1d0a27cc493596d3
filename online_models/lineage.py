"""What became of segments from one version to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.rows import Ints

if TYPE_CHECKING:
    from online_models.panel import Panel


class Lineage(msgspec.Struct, frozen=True):
    """One event in the life of a segment; shares are of panel members, -1 stands for people in no segment before."""

    event: str  # born, split, merged, retired
    segment: int  # born, split: the new one; merged, retired: the one that ends
    parents: list[tuple[int, float]] = []  # born, split: where its people were before, and the share of its people
    heirs: list[tuple[int, float]] = []  # merged, retired: where its people are now, and the share of its people
    people: int = 0  # panel members it is about


def tell(panel: Panel, active: NDArray[np.bool_], was: Ints, before: list[int], after: list[int]) -> list[Lineage]:
    then, now = panel.before(), panel.segment
    out = []
    fresh = active & (then == -1)
    for new in sorted(set(after) - set(before)):
        mine = active & (now == new)
        n = int(mine.sum())
        parents = shares(then[mine])
        newcomers = dict(parents).get(-1, 0.0)
        rest = active & ~mine
        base = float((then[rest] == -1).mean()) if rest.any() else 1.0
        known = [(a, b) for a, b in parents if a != -1]
        if not before or (newcomers >= .5 and newcomers >= 2 * base) or not known or known[0][1] < .5 * (1 - newcomers):
            event = "born"
        else:
            event = "split"
        out.append(Lineage(event, new, parents=parents, people=n))
    for old in sorted(set(before) - set(after)):
        mine = then == old
        if mine.sum() < 10:
            mine = was == old
        gone = mine & ~active
        heirs = shares(np.where(active, now, -1)[mine])
        lost = float(gone.sum() / max(1, mine.sum()))
        other = (then >= 0) & ~mine
        base = float((~active)[other].mean()) if other.any() else 0.0
        event = "retired" if lost >= .5 and lost >= 2 * base or not heirs else "merged"
        out.append(Lineage(event, old, heirs=heirs, people=int(mine.sum())))
    return out


def shares(label: Ints) -> list[tuple[int, float]]:
    found, count = np.unique(label, return_counts=True)
    order = np.lexsort((found, -count))
    return [(int(found[i]), round(float(count[i] / len(label)), 4)) for i in order]
