"""The set of segments from one version to the next: which are split or merged, which end, and under which ids."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.clustering import proposals
from online_models.clustering.alignment import align
from online_models.clustering.kmeans import lloyd
from online_models.clustering.proposals import FEWEST, Proposal
from online_models.distances import Floats, nearest
from online_models.segment_ids import NO_SEGMENT, centre_index
from online_models.training_rows import HOUR_MS, Ints

PATIENCE = 5 * HOUR_MS  # of event time in which a proposal has to win at every version, at two at least
MARGIN = {"split": 0.003, "merge": 0.006, "swap": 0.012, "anew": 0.015}  # above the price, so that k does not flap
STANDARD_ERRORS = 1.0  # above the margin
ABANDONED = 0.3  # of those who were in a segment, below which it is not theirs any more
SHRUNK = 0.5  # of its people: and it has not found others
SAME = 0.25  # shared people among those of either, from which on a segment is still the same one
MOST_CHANGES = 3  # at one version


class PendingChange(msgspec.Struct):
    """A proposal that has won at versions in a row, and is not carried out yet."""

    event: str
    segment: int  # that is split, or that ends; NO_SEGMENT for a solution from nothing
    since: int  # ms
    times: int


class People(NamedTuple):
    """n panel members: where they lie and in which segments they were."""

    points: Floats  # (n, D)
    learned: Ints  # indices of those who centres are moved by
    holdout: Ints  # indices of those who centres are only judged by
    active: NDArray[np.bool_]  # (n,) who came within a week
    before: Ints  # (n,) ids held under the version before
    days_ago: Ints  # (n,) ids held some days ago


class Segments(NamedTuple):
    centres: Floats  # (k, D)
    ids: list[int]  # (k,)
    next_id: int  # the first that was never used


class SplitMerge:
    """Bounds on k, and the changes that are pending."""

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self.pending: list[PendingChange] = []

    def revise(self, segments: Segments, people: People, time: int, seed: int) -> Segments:
        """The set of segments at a time (ms), k within the bounds; seed: of this version."""
        segments = self._bounded(self._without_abandoned(segments, people), people, seed)
        for turn in range(MOST_CHANGES):
            best_of: dict[tuple[str, int], Proposal] = {}
            for proposal in self._proposals(segments, people, seed + turn):
                segment = segments.ids[proposal.centre] if proposal.event != "anew" else NO_SEGMENT
                key = (proposal.event, segment)
                if key not in best_of or best_of[key].gain < proposal.gain:
                    best_of[key] = proposal
            won = {key: proposal for key, proposal in best_of.items() if _wins(proposal)}
            if turn == 0:
                self._note(set(won), time)
            ripe = {
                (change.event, change.segment)
                for change in self.pending
                if change.times >= 2 and time - change.since >= PATIENCE
            }
            candidates = (key for key in sorted(won) if key in ripe)
            chosen = max(candidates, key=lambda key: won[key].gain, default=None)
            if chosen is None:
                break
            self.pending = [
                change for change in self.pending if (change.event, change.segment) != chosen and chosen[0] != "anew"
            ]
            segments = with_ids(segments, won[chosen].centres, people)
        return segments

    def _proposals(self, segments: Segments, people: People, seed: int) -> list[Proposal]:
        learned, holdout = people.points[people.learned], people.points[people.holdout]
        return proposals.proposals(learned, holdout, segments.centres, self.least, self.most, seed)

    def _note(self, won: set[tuple[str, int]], time: int) -> None:
        """Count those that won again, begin with those that won for the first time, forget those that did not win."""
        kept = [change for change in self.pending if (change.event, change.segment) in won]
        for change in kept:
            change.times += 1
        new = won - {(change.event, change.segment) for change in kept}
        self.pending = kept + [PendingChange(event, segment, time, 1) for event, segment in sorted(new)]

    def _without_abandoned(self, segments: Segments, people: People) -> Segments:
        """Without the segments that their people have left: by going elsewhere or by not coming any more."""
        known = people.days_ago != NO_SEGMENT
        still_coming = int(np.count_nonzero(known & people.active)) / max(1, int(np.count_nonzero(known)))
        keep = [i for i, segment in enumerate(segments.ids) if not _abandoned(people, segment, still_coming)]
        if not keep or len(keep) == len(segments.ids):
            return segments
        centres = lloyd(people.points[people.learned], segments.centres[keep], proposals.ROUNDS)
        return Segments(centres, [segments.ids[i] for i in keep], segments.next_id)

    def _bounded(self, segments: Segments, people: People, seed: int) -> Segments:
        """With as many segments as are allowed: of too many the likest are merged, of too few the largest is split."""
        learned = people.points[people.learned]
        while len(segments.ids) > self.most:
            merged = lloyd(learned, proposals.merge_likest(learned, segments.centres), proposals.ROUNDS)
            segments = with_ids(segments, merged, people)
        while len(segments.ids) < self.least:
            centres = lloyd(learned, proposals.split_largest(learned, segments.centres, seed), proposals.ROUNDS)
            segments = Segments(centres, [*segments.ids, segments.next_id], segments.next_id + 1)
        return segments


def _wins(proposal: Proposal) -> bool:
    return proposal.gain > MARGIN[proposal.event] + STANDARD_ERRORS * proposal.error


def _abandoned(people: People, segment: int, still_coming: float) -> bool:
    """Whether a segment (id) has lost its people and found no others.

    still_coming: the share of all who were there days ago that still come, for where the whole shop was away nobody has
    left a segment.
    """
    were_in = people.days_ago == segment
    are_in = people.active & (people.before == segment)
    before, now = np.count_nonzero(were_in), np.count_nonzero(are_in)
    stayed = np.count_nonzero(were_in & are_in)
    left = stayed < ABANDONED * still_coming * before
    return bool(before >= 2 * FEWEST and left and now < SHRUNK * still_coming * before)


def with_ids(segments: Segments, centres: Floats, people: People) -> Segments:
    """Other centres (k', D) under the ids of those whose people they have; new ids for the others."""
    label = nearest(people.points, centres)[0].astype(np.int64)
    before = centre_index(segments.ids, people.before)
    known = before >= 0
    aligned = align(before[known], label[known], len(segments.ids), len(centres), SAME)
    ids, next_id = [], segments.next_id
    for old in aligned.old_of.tolist():
        ids.append(segments.ids[old] if old >= 0 else next_id)
        next_id += old < 0
    return Segments(centres, ids, next_id)
