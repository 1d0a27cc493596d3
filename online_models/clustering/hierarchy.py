"""Super-segments: a few families of segments, from a linkage of their centres.

Ward's linkage (1963), weighted by people: each merge costs as little as it can of what k-means minimises, the squared
distance of all people to the centres, so a family is what k-means would find with fewer centres, and a segment of few
people does not make a family of its own because it lies far off (as it does under average linkage).
"""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from online_models.distances import Floats, distances
from online_models.training_rows import Ints

FEW = 3  # segments up to which each is a family of its own
MOST = 6  # families
WEIGHT_UNITS = 256  # that people are counted in; a linkage of that many points is a few milliseconds


def family_count(segments: int) -> int:
    """How many families segments make: as many as there are segments in a family (the root), so that neither list is
    long. By the number of segments alone: a rule that looks at distances changes its mind from version to version.

    >>> [family_count(segments) for segments in (2, 4, 9, 100)]
    [2, 2, 3, 6]
    """
    return segments if segments <= FEW else min(MOST, round(segments**0.5))


def super_segments(ids: list[int], centres: Floats, weights: list[float], families: int | None = None) -> list[int]:
    """For each of k segments (ids (k,), centres (k, D), weights (k,) its share of people) its super-segment, which has
    the id of its largest segment, of equals the smallest id.

    A pure function of its arguments; the order of the segments makes no difference. ValueError where their numbers do
    not fit or fewer than one family is wanted.
    """
    if not len(ids) == len(centres) == len(weights):
        raise ValueError(f"{len(ids)} ids, {len(centres)} centres, {len(weights)} weights")
    wanted = family_count(len(ids)) if families is None else families
    if wanted < 1:
        raise ValueError("at least one family")
    if wanted >= len(ids):
        return list(ids)
    order = np.argsort(ids, kind="stable")
    family = np.empty(len(ids), np.int64)
    family[order] = _families(centres[order], np.array(weights, np.float64)[order], wanted)
    largest: dict[int, int] = {}
    for place in sorted(range(len(ids)), key=lambda i: (weights[i], -ids[i])):
        largest[int(family[place])] = ids[place]  # the last one written is the largest
    return [largest[number] for number in family.tolist()]


def siblings(ids: list[int], families: list[int]) -> dict[int, list[int]]:
    """For each segment the others of its super-segment, ascending.

    >>> siblings([0, 1, 2], [1, 1, 2])
    {0: [1], 1: [0], 2: []}
    """
    return {
        segment: sorted(other for other, its in zip(ids, families, strict=True) if its == family and other != segment)
        for segment, family in zip(ids, families, strict=True)
    }


def _families(centres: Floats, weights: Floats, families: int) -> Ints:
    """The family (k,) of each centre.

    scipy's linkage knows no weights: a centre is as many equal points as it has people, in units. Those of one centre
    lie at no distance, so they are joined first, and what follows is Ward's linkage with these weights.
    """
    total = float(np.cumsum(weights)[-1])
    shares = weights / total if total > 0 else np.full(len(weights), 1.0 / len(weights))
    units = np.maximum(1, np.rint(shares * WEIGHT_UNITS)).astype(np.int64)
    centre_of = np.repeat(np.arange(len(centres)), units)
    pairwise = np.sqrt(distances(centres, centres))[np.ix_(centre_of, centre_of)]
    tree = linkage(pairwise[np.triu_indices(len(centre_of), 1)], "ward")
    family: Ints = fcluster(tree, families, "maxclust")
    return family[np.searchsorted(centre_of, np.arange(len(centres)))]
