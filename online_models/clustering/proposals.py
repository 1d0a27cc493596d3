"""How many segments there are, and which: changes of the set that people speak for.

A segment has to be worth its place: what people lose in distance and gain in silhouette by it must exceed a price.
Judged are people who were held out, and those learned from as if each had been left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from online_models.clustering.kmeans import lloyd, plus_plus
from online_models.distances import Floats, nearest
from online_models.evaluation.scoring import mean

PRICE = 0.036  # of one more segment: of 0.02 to 0.045 the one that finds most planted changes and invents fewest
SILHOUETTE = 2.0  # weight of the mean silhouette beside the logarithm of the error
# dimensions in which these were found; in D of them a split takes about 2 / D of the error, be there two kinds or one,
# so the error counts by D
MEASURED = 18
LOOK = 0.4  # a split is looked at where, if nobody else moved, it made at least this share of the price
LOOKS = 4  # at so many splits, and so many merges
ROUNDS = 4  # of Lloyd's, after which a change is judged
TRIES = 3  # starts of a split
STARTS = 4  # of a solution for people of whom nothing is known
SMALLEST, FEWEST = 0.015, 8  # share of people, and people, below which nothing is split off

Event = Literal["split", "merge", "swap", "anew"]


class Proposal(NamedTuple):
    """Other centres (k', D), and what they are worth more than those that there are, the price of segments paid."""

    event: Event
    at: int  # the centre that is split, or that ends; of a solution from nothing 0
    centres: Floats
    gain: float
    error: float  # standard error of the gain


class Judged(NamedTuple):
    """Of each person (n,)."""

    distance: Floats  # squared, to the nearest centre
    silhouette: Floats


def judge(learned: Floats, held: Floats, centres: Floats) -> Judged:
    """Squared distance and simplified silhouette (1 - a / b, distances to the nearest centre and to the next; Hruschka
    et al. 2004) of those learned from (n, D), each against a centre that it had no part in, and those held out (m, D).
    """
    label, _, a, b = nearest(np.concatenate((learned, held)), centres)
    n = len(learned)
    size = np.bincount(label[:n], minlength=len(centres))[label[:n]]
    a[:n] *= (size / np.maximum(size - 1, 1)) ** 2  # what the mean of the others is farther away
    if len(centres) == 1:
        return Judged(a, np.zeros(len(a)))
    return Judged(a, 1.0 - np.sqrt(np.minimum(a / np.where(b > 0, b, 1.0), 1.0)))


def worth(judged: Judged, centres: Floats) -> float:
    """What centres (k, D) are worth to those judged: better is more."""
    k, width = centres.shape
    error = float(np.log(max(mean(judged.distance), 1e-12)))
    return -width / MEASURED * error + SILHOUETTE * mean(judged.silhouette) - PRICE * k


def proposals(learned: Floats, held: Floats, centres: Floats, least: int, most: int, seed: int) -> list[Proposal]:
    """Changes of the set of centres (k, D) within the bounds on k: splits, merges of neighbours, a split and a merge
    together, and a solution from nothing.

    learned (n, D): lines of people that centres are moved by; held (m, D): of those by which alone they are judged.
    """
    k, width = centres.shape
    now = judge(learned, held, centres)
    error, value = mean(now.distance), worth(now, centres)

    def judged(event: Event, at: int, start: Floats, rounds: int = ROUNDS) -> Proposal | None:
        moved = lloyd(learned, start, rounds)
        size = np.bincount(nearest(learned, moved)[0], minlength=len(moved))
        if event != "merge" and size.min() < fewest(learned):
            return None
        then = judge(learned, held, moved)
        nearer, apart = (now.distance - then.distance) / error, then.silhouette - now.silhouette
        each = width / MEASURED * nearer + SILHOUETTE * apart
        spread = np.sqrt(mean((each - mean(each)) ** 2) / len(each))
        return Proposal(event, at, moved, worth(then, moved) - value, float(spread))

    splits = list(_splits(learned, centres, seed))
    merges = list(_merges(learned, centres))
    found = [judged("split", at, _split(centres, at, two)) for at, two in (splits if k < most else [])]
    if k > least:
        found += [judged("merge", gone, _merged(centres, gone, other, at)) for gone, other, at in merges]
    for at, two in splits[:2]:
        for gone, other, into in merges[:2]:
            if at not in (gone, other):
                found.append(judged("swap", at, _merged(_split(centres, at, two), gone, other, into)))
    for many in sorted({k, min(most, k + 1)}):
        found.append(judged("anew", 0, plus_plus(learned, many, seed), 4 * ROUNDS))
    return [one for one in found if one is not None]


def merged(lines: Floats, centres: Floats) -> Floats:
    """Centres (k - 1, D), of k at least 2: the likest two are one."""
    return _merged(centres, *next(_merges(lines, centres)))


def split(lines: Floats, centres: Floats, seed: int) -> Floats:
    """Centres (k + 1, D): that of most of lines (n, D) is two."""
    label = nearest(lines, centres)[0]
    at = int(np.bincount(label, minlength=len(centres)).argmax())
    return _split(centres, at, halves(lines[label == at], seed + at)[0])


def _split(centres: Floats, at: int, two: Floats) -> Floats:
    out = np.concatenate((centres, two[1:]))
    out[at] = two[0]
    return out


def _merged(centres: Floats, gone: int, other: int, into: Floats) -> Floats:
    out = centres.copy()
    out[other] = into
    return np.delete(out, gone, axis=0)


def _splits(lines: Floats, centres: Floats, seed: int) -> Iterator[tuple[int, Floats]]:
    """Centres that might be two, with the two, the likeliest first."""
    label, _, distance, _ = nearest(lines, centres)
    total, found = mean(distance) * len(lines), []
    for at in range(len(centres)):
        mine = label == at
        if np.count_nonzero(mine) >= 2 * fewest(lines):
            two, error = halves(lines[mine], seed + at)
            found.append(((mean(distance[mine]) * np.count_nonzero(mine) - error) / max(total, 1e-12), at, two))
    found.sort(key=lambda one: -one[0])
    yield from ((at, two) for less, at, two in found[:LOOKS] if less >= LOOK * PRICE)


def _merges(lines: Floats, centres: Floats) -> Iterator[tuple[int, int, Floats]]:
    """Pairs of neighbours that might be one: the smaller, which ends, the larger, and where the one would be; the
    likeliest first, by what Ward (1963) says they would cost."""
    label, second, distance, _ = nearest(lines, centres)
    size = np.bincount(label, minlength=len(centres))
    total = max(mean(distance) * len(lines), 1e-12)
    found = {}
    for at in range(len(centres) if len(centres) > 1 else 0):
        mine = label == at
        other = int(np.bincount(second[mine], minlength=len(centres)).argmax()) if size[at] else (at == 0) * 1
        gone, stays = sorted((at, other), key=lambda one: (size[one], one))
        both = max(1, int(size[gone] + size[stays]))
        apart = float(np.cumsum((centres[gone] - centres[stays]) ** 2)[-1])
        cost = size[gone] * size[stays] / both * apart / total
        into = (size[gone] * centres[gone] + size[stays] * centres[stays]) / both if size[stays] else centres[stays]
        found[gone, stays] = (cost, gone, stays, into)
    ordered = sorted(found.values(), key=lambda one: one[:3])
    yield from (one[1:] for one in ordered[:LOOKS])


def halves(lines: Floats, seed: int) -> tuple[Floats, float]:
    """The best two centres (2, D) for lines (n, D), the one with more of them first; the sum of squared distances."""
    best, least = lines[:1].repeat(2, 0), np.inf
    for attempt in range(TRIES):
        two = lloyd(lines, plus_plus(lines, 2, seed * TRIES + attempt), 8)
        label, _, distance, _ = nearest(lines, two)
        error = mean(distance) * len(lines)
        if error < least:
            best, least = (two if 2 * np.count_nonzero(label) <= len(label) else two[::-1]), error
    return best, least


def first(learned: Floats, held: Floats, least: int, most: int, seed: int) -> Floats:
    """Centres (k, D) for people of whom nothing is known yet: of each k the best of some starts, of these the one that
    is worth most."""
    chosen, found = None, -np.inf
    for k in _numbers(least, most):
        if k > least and len(learned) < k * FEWEST:
            break
        starts = [lloyd(learned, plus_plus(learned, k, seed + attempt), 30) for attempt in range(STARTS)]
        best = min(starts, key=lambda centres: mean(nearest(learned, centres)[2]))
        value = worth(judge(learned, held, best), best)
        if chosen is None or value > found:
            chosen, found = best, value
    assert chosen is not None
    return chosen


def _numbers(least: int, most: int) -> Iterator[int]:
    """Numbers of segments to try: each one up to 24, then in steps of a twelfth."""
    while least < most:
        yield least
        least = min(most, least + max(1, least // 12))
    yield most


def fewest(lines: Floats) -> float:
    return max(FEWEST, SMALLEST * len(lines))
