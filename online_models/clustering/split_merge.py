"""The set of segments from one version to the next: which end, which begin, and under which ids."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.clustering import proposals as choice
from online_models.clustering.alignment import align
from online_models.clustering.kmeans import lloyd
from online_models.clustering.proposals import FEWEST, Proposal
from online_models.distances import Floats, nearest
from online_models.lineage import NOWHERE
from online_models.training_rows import Ints
from online_models.version import index

HOUR = 3_600_000
PATIENCE = 5 * HOUR  # of event time in which a proposal has to win at every version, at two at least
MARGIN = {"split": 0.003, "merge": 0.006, "swap": 0.012, "anew": 0.015}  # above the price, so that k does not flap
SURE = 1.0  # standard errors above the margin
LEFT = 0.3  # of those who were in a segment, below which it is not theirs any more
HALVED = 0.5  # of its people: and it has not found others
SAME = 0.25  # shared people among those of either, from which on a segment is still the same one
AT_ONCE = 3  # changes at one version


class Standing(msgspec.Struct):
    """A proposal that has won at versions in a row."""

    event: str
    segment: int
    since: int  # ms
    times: int


class Scene(NamedTuple):
    """n panel members, where they lie and where they were."""

    lines: Floats  # (n, D)
    learned: Ints  # indices: who centres are moved by
    held: Ints  # indices: who they are only judged by
    active: NDArray[np.bool_]  # (n,)
    was: Ints  # (n,) ids held
    then: Ints  # (n,) ids held some days ago


class Segments(NamedTuple):
    centres: Floats  # (k, D)
    ids: list[int]
    next_id: int


class Structure:
    """Bounds on k, and the proposals that stand."""

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self.standing: list[Standing] = []

    def revise(self, found: Segments, scene: Scene, time: int, seed: int) -> Segments:
        """The set of segments at a time (ms), k within the bounds; seed: of this version."""
        found = self._bounded(self._without_the_left(found, scene), scene, seed)
        for turn in range(AT_ONCE):
            offered: dict[tuple[str, int], Proposal] = {}
            for one in self._proposals(found, scene, seed + turn):
                key = (one.event, found.ids[one.at] if one.event != "anew" else NOWHERE)
                if key not in offered or offered[key].gain < one.gain:
                    offered[key] = one
            won = {key: one for key, one in offered.items() if one.gain > MARGIN[one.event] + SURE * one.error}
            if turn == 0:
                self._stand(set(won), time)
            ripe = {(s.event, s.segment) for s in self.standing if s.times >= 2 and time - s.since >= PATIENCE}
            best = max((key for key in sorted(won) if key in ripe), key=lambda key: won[key].gain, default=None)
            if best is None:
                break
            self.standing = [s for s in self.standing if (s.event, s.segment) != best and best[0] != "anew"]
            found = named(found, won[best].centres, scene)
        return found

    def _proposals(self, found: Segments, scene: Scene, seed: int) -> list[Proposal]:
        return choice.proposals(
            scene.lines[scene.learned], scene.lines[scene.held], found.centres, self.least, self.most, seed
        )

    def _stand(self, won: set[tuple[str, int]], time: int) -> None:
        kept = [s for s in self.standing if (s.event, s.segment) in won]
        for one in kept:
            one.times += 1
        new = won - {(s.event, s.segment) for s in kept}
        self.standing = kept + [Standing(event, segment, time, 1) for event, segment in sorted(new)]

    def _without_the_left(self, found: Segments, scene: Scene) -> Segments:
        """Without the segments that their people have left: by going elsewhere or by not coming any more."""
        known = scene.then != NOWHERE
        come = int(np.count_nonzero(known & scene.active)) / max(1, int(np.count_nonzero(known)))
        keep = [at for at, ident in enumerate(found.ids) if not _left(scene, ident, come)]
        if not keep or len(keep) == len(found.ids):
            return found
        centres = lloyd(scene.lines[scene.learned], found.centres[keep], choice.ROUNDS)
        return Segments(centres, [found.ids[at] for at in keep], found.next_id)

    def _bounded(self, found: Segments, scene: Scene, seed: int) -> Segments:
        """With as many segments as are allowed: of too many the likest are merged, of too few the largest is split."""
        learned = scene.lines[scene.learned]
        while len(found.ids) > self.most:
            found = named(found, lloyd(learned, choice.merged(learned, found.centres), choice.ROUNDS), scene)
        while len(found.ids) < self.least:
            centres = lloyd(learned, choice.split(learned, found.centres, seed), choice.ROUNDS)
            found = Segments(centres, [*found.ids, found.next_id], found.next_id + 1)
        return found


def _left(scene: Scene, ident: int, come: float) -> bool:
    """Whether a segment is no longer that of its people, and not of as many others; come: the share of all who were
    there that still come, for where the whole shop was away nobody has left a segment."""
    had = scene.then == ident
    has = scene.active & (scene.was == ident)
    before, now = np.count_nonzero(had), np.count_nonzero(has)
    stayed = np.count_nonzero(had & has)
    return bool(before >= 2 * FEWEST and stayed < LEFT * come * before and now < HALVED * come * before)


def named(found: Segments, centres: Floats, scene: Scene) -> Segments:
    """Other centres under the ids of those whose people they have; new ids for the others."""
    label = nearest(scene.lines, centres)[0].astype(np.int64)
    was = index(found.ids, scene.was)
    known = was >= 0
    ids, next_id = [], found.next_id
    for at in align(was[known], label[known], len(found.ids), len(centres), SAME).old_of.tolist():
        ids.append(found.ids[at] if at >= 0 else next_id)
        next_id += at < 0
    return Segments(centres, ids, next_id)
