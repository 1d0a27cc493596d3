"""Whether the changes of the set of kinds that were planted were named, and what was named that was not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from online_models.lineage import Lineage
from tests.quality.kinds import NOBODY
from tests.quality.planted import DAY, START, Change, Ints, Planted
from tests.quality.worker import Seen

WITHIN = 9.0  # days after a change in which its name counts
WARM_UP = 0.25  # share of the days before which names do not count


@dataclass(frozen=True, slots=True)
class Score:
    planted: int
    named: int  # by the right name, about the right people
    told: int  # about the right people, by any name
    invented: int  # no planted change stands behind it
    missed: list[str]
    inventions: list[str]


@dataclass(frozen=True, slots=True)
class _Said:
    """One event of lineage: when, and the kinds of the people of the segments that it names."""

    day: float
    event: Lineage
    kind: int
    others: list[int]  # kinds of the parents or heirs, the largest share first


def score(planted: Planted, seen: Seen) -> Score:
    """Each planted change is named by one event at most; what names none is invented."""
    said = [one for one in _said(planted, seen) if one.day >= WARM_UP * planted.days]
    left, named, told, missed = list(said), 0, 0, []
    for change in planted.changes:
        right = [one for one in left if _about(one, change)]
        exact = [one for one in right if one.event.event == change.event]
        named += bool(exact)
        told += bool(right)
        if not exact:
            missed.append(f"day {change.day:.0f} {change.event}")
        for one in (exact or right)[:1]:
            left.remove(one)
    inventions = [f"day {one.day:.1f} {one.event.event} {one.event.segment}" for one in left]
    return Score(len(planted.changes), named, told, len(left), missed, inventions)


def _about(said: _Said, change: Change) -> bool:
    """Whether an event tells of a change: its people are those that the change was planted in."""
    if not change.day <= said.day <= change.day + WITHIN:
        return False
    begins, ends = said.event.event in ("born", "split"), change.event in ("merged", "retired")
    if begins == ends:
        return False
    if change.event in ("born", "retired"):
        return said.kind == change.kind
    both = {change.kind, change.other}  # of two halves either may have the new name, or lose the old one
    return said.kind in both and (said.event.event != change.event or not said.others or said.others[0] in both)


def _said(planted: Planted, seen: Seen) -> list[_Said]:
    times = np.array(seen.times)
    out = []
    for came, lineage in seen.versions:
        # by then readers have swapped: the one after next, for the swap is a step later
        after = int(np.searchsorted(times, came, "right"))
        before = int(np.searchsorted(times, came, "left")) - 1
        if after >= len(times) or before < 0:
            continue
        for event in lineage:
            begins = event.event in ("born", "split")
            now, then = (after, before) if begins else (before, after)
            kind = _kind(planted, seen, now, event.segment, began=begins)
            named = event.parents if begins else event.heirs
            ordered = sorted((one for one in named if one[0] >= 0), key=lambda one: -one[1])
            others = [_kind(planted, seen, then, segment, began=not begins) for segment, _ in ordered]
            out.append(_Said((came - START) / DAY, event, kind, others))
    return out


def _kind(planted: Planted, seen: Seen, i: int, segment: int, *, began: bool) -> int:
    """The kind of most people of a segment at a time of `seen`; of one that ended, what they were before they changed:
    the kind that they had been for longest in the two weeks before."""
    who = np.flatnonzero(seen.segments[i] == segment)
    if not len(who):
        return NOBODY
    now = seen.times[i]
    if began:
        return _most(planted.kind_at(now)[who])
    looks: list[Ints] = [planted.kind_at(now - back * DAY)[who] for back in range(1, 15)]
    return _most(np.concatenate(looks))


def _most(kind: Ints) -> int:
    kind = kind[kind != NOBODY]
    return int(np.bincount(kind).argmax()) if len(kind) else NOBODY
