"""How many segments there are, and which: changes of the set of centres, and what each is worth.

A segment has to be worth its place: what people lose in distance and gain in silhouette by it must exceed a price.
Judged are people of the holdout, and those learned from as if each had been left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from online_models.clustering.kmeans import lloyd, plus_plus
from online_models.distances import Floats, mean, nearest

PRICE = 0.036  # of one more segment: of 0.02 to 0.045 the one that finds most planted changes and invents fewest
SILHOUETTE_WEIGHT = 2.0  # of the mean silhouette beside the logarithm of the error
# dimensions in which these were found; in D of them a split takes about 2 / D of the error, be there two kinds or one,
# so the error counts by D
MEASURED_DIMENSIONS = 18
LEAST_PROMISE = 0.4  # a split is tried where, if nobody else moved, it would gain at least this share of the price
TRIED = 4  # splits, and as many merges
ROUNDS = 4  # of Lloyd's, after which a change is judged
SPLIT_STARTS = 3
FIRST_STARTS = 4  # of a solution for people of whom nothing is known
SMALLEST, FEWEST = 0.015, 8  # share of people, and people, below which nothing is split off

Event = Literal["split", "merge", "swap", "anew"]


class Proposal(NamedTuple):
    """Other centres, and what they are worth more than those that there are, the price of segments paid."""

    event: Event
    centre: int  # index of the one that is split, or that ends; 0 for a solution from nothing
    centres: Floats  # (k', D)
    gain: float
    error: float  # standard error of the gain


class Fit(NamedTuple):
    """Of each person (n,) under some centres."""

    distance: Floats  # squared, to the nearest centre
    silhouette: Floats


def fit(learned: Floats, holdout: Floats, centres: Floats) -> Fit:
    """Squared distance and simplified silhouette (1 - a / b, distances to the nearest centre and to the next; Hruschka
    et al. 2004) of those learned from (n, D), each against a centre that it had no part in, and of the holdout (m, D).
    """
    label, _, own, other = nearest(np.concatenate((learned, holdout)), centres)
    n = len(learned)
    size = np.bincount(label[:n], minlength=len(centres))[label[:n]]
    own[:n] *= (size / np.maximum(size - 1, 1)) ** 2  # what the mean of the others is farther away
    if len(centres) == 1:
        return Fit(own, np.zeros(len(own)))
    return Fit(own, 1.0 - np.sqrt(np.minimum(own / np.where(other > 0, other, 1.0), 1.0)))


def worth(fitted: Fit, centres: Floats) -> float:
    """What centres (k, D) are worth to those who were fitted: better is more."""
    k, width = centres.shape
    error = float(np.log(max(mean(fitted.distance), 1e-12)))
    return -width / MEASURED_DIMENSIONS * error + SILHOUETTE_WEIGHT * mean(fitted.silhouette) - PRICE * k


def proposals(learned: Floats, holdout: Floats, centres: Floats, least: int, most: int, seed: int) -> list[Proposal]:
    """Changes of the set of centres (k, D) within the bounds on k: splits, merges of neighbours, a split and a merge
    together, and a solution from nothing.

    learned (n, D): points of people that centres are moved by; holdout (m, D): of those they are only judged by.
    """
    k, width = centres.shape
    now = fit(learned, holdout, centres)
    error, value = mean(now.distance), worth(now, centres)

    def judged(event: Event, centre: int, start: Floats, rounds: int = ROUNDS) -> Proposal | None:
        moved = lloyd(learned, start, rounds)
        size = np.bincount(nearest(learned, moved)[0], minlength=len(moved))
        if event != "merge" and size.min() < fewest(learned):
            return None
        then = fit(learned, holdout, moved)
        nearer, apart = (now.distance - then.distance) / error, then.silhouette - now.silhouette
        gains = width / MEASURED_DIMENSIONS * nearer + SILHOUETTE_WEIGHT * apart
        standard_error = np.sqrt(mean((gains - mean(gains)) ** 2) / len(gains))
        return Proposal(event, centre, moved, worth(then, moved) - value, float(standard_error))

    splits = list(_splits(learned, centres, seed))
    merges = list(_merges(learned, centres))
    tried = [judged("split", centre, _split(centres, centre, two)) for centre, two in (splits if k < most else [])]
    if k > least:
        tried += [judged("merge", gone, _merged(centres, gone, stays, point)) for gone, stays, point in merges]
    for centre, two in splits[:2]:
        for gone, stays, point in merges[:2]:
            if centre not in (gone, stays):
                tried.append(judged("swap", centre, _merged(_split(centres, centre, two), gone, stays, point)))
    for count in sorted({k, min(most, k + 1)}):
        tried.append(judged("anew", 0, plus_plus(learned, count, seed), 4 * ROUNDS))
    return [proposal for proposal in tried if proposal is not None]


def merge_likest(points: Floats, centres: Floats) -> Floats:
    """Centres (k - 1, D), of k at least 2: the likest two become one."""
    return _merged(centres, *next(_merges(points, centres)))


def split_largest(points: Floats, centres: Floats, seed: int) -> Floats:
    """Centres (k + 1, D): the one that most of the points (n, D) belong to becomes two."""
    label = nearest(points, centres)[0]
    largest = int(np.bincount(label, minlength=len(centres)).argmax())
    return _split(centres, largest, halves(points[label == largest], seed + largest)[0])


def _split(centres: Floats, centre: int, two: Floats) -> Floats:
    changed = np.concatenate((centres, two[1:]))
    changed[centre] = two[0]
    return changed


def _merged(centres: Floats, gone: int, stays: int, point: Floats) -> Floats:
    changed = centres.copy()
    changed[stays] = point
    return np.delete(changed, gone, axis=0)


def _splits(points: Floats, centres: Floats, seed: int) -> Iterator[tuple[int, Floats]]:
    """Centres that might be two, with the two (2, D), the likeliest first."""
    label, _, distance, _ = nearest(points, centres)
    total = mean(distance) * len(points)
    promising: list[tuple[float, int, Floats]] = []
    for centre in range(len(centres)):
        inside = label == centre
        size = np.count_nonzero(inside)
        if size >= 2 * fewest(points):
            two, error = halves(points[inside], seed + centre)
            saved = (mean(distance[inside]) * size - error) / max(total, 1e-12)
            promising.append((saved, centre, two))
    promising.sort(key=lambda split: -split[0])
    yield from ((centre, two) for saved, centre, two in promising[:TRIED] if saved >= LEAST_PROMISE * PRICE)


def _merges(points: Floats, centres: Floats) -> Iterator[tuple[int, int, Floats]]:
    """Pairs of neighbours that might be one: the smaller, which ends, the larger, and where the one would be; the
    likeliest first, by what Ward (1963) says they would cost."""
    label, second, distance, _ = nearest(points, centres)
    size = np.bincount(label, minlength=len(centres))
    total = max(mean(distance) * len(points), 1e-12)
    pairs: dict[tuple[int, int], tuple[float, int, int, Floats]] = {}
    for centre in range(len(centres) if len(centres) > 1 else 0):
        if size[centre]:
            neighbour = int(np.bincount(second[label == centre], minlength=len(centres)).argmax())
        else:
            neighbour = 1 if centre == 0 else 0
        gone, stays = sorted((centre, neighbour), key=lambda index: (size[index], index))
        both = max(1, int(size[gone] + size[stays]))
        apart = float(np.cumsum((centres[gone] - centres[stays]) ** 2)[-1])
        cost = size[gone] * size[stays] / both * apart / total
        point = centres[stays]
        if size[stays]:
            point = (size[gone] * centres[gone] + size[stays] * centres[stays]) / both
        pairs[gone, stays] = (cost, gone, stays, point)
    cheapest = sorted(pairs.values(), key=lambda pair: pair[:3])
    yield from (pair[1:] for pair in cheapest[:TRIED])


def halves(points: Floats, seed: int) -> tuple[Floats, float]:
    """The best two centres (2, D) for points (n, D), the one with more of them first; the sum of squared distances."""
    best, least_error = points[:1].repeat(2, 0), np.inf
    for attempt in range(SPLIT_STARTS):
        two = lloyd(points, plus_plus(points, 2, seed * SPLIT_STARTS + attempt), 8)
        label, _, distance, _ = nearest(points, two)
        error = mean(distance) * len(points)
        if error < least_error:
            best, least_error = (two if 2 * np.count_nonzero(label) <= len(label) else two[::-1]), error
    return best, least_error


def first_centres(learned: Floats, holdout: Floats, least: int, most: int, seed: int) -> Floats:
    """Centres (k, D), k within the bounds, for people of whom nothing is known yet: of each k the best of some starts,
    of these the one that is worth most."""
    chosen, most_worth = None, -np.inf
    for k in _numbers(least, most):
        if k > least and len(learned) < k * FEWEST:
            break
        starts = [lloyd(learned, plus_plus(learned, k, seed + attempt), 30) for attempt in range(FIRST_STARTS)]
        best = min(starts, key=lambda centres: mean(nearest(learned, centres)[2]))
        value = worth(fit(learned, holdout, best), best)
        if chosen is None or value > most_worth:
            chosen, most_worth = best, value
    assert chosen is not None
    return chosen


def _numbers(least: int, most: int) -> Iterator[int]:
    """Numbers of segments to try: each one up to 24, then in steps of a twelfth."""
    while least < most:
        yield least
        least = min(most, least + max(1, least // 12))
    yield most


def fewest(points: Floats) -> float:
    """People of n (n, D) below which a centre of its own is not worth it."""
    return max(FEWEST, SMALLEST * len(points))
