"""How many segments there are: splits and merges that held-out people speak for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.kmeans import lloyd, plus_plus
from online_models.nearest import Floats, distances, nearest

LOOK = 0.4
MOST = 4
ROUNDS = 4  # of Lloyd's, after which a proposal is judged
TRIES = 3  # starts of a split
SMALLEST = 0.015  # share of the people below which nothing is split off
FEWEST = 8  # people, likewise


class Proposal(NamedTuple):
    """Centres (k', D) with one more or one fewer, and what they are worth to people who were held out."""

    event: str  # split, merge
    at: int  # the centre that is split, or that ends
    other: int  # merge: the one that goes on; split: -1
    centres: Floats
    origin: NDArray[np.int64]  # (k',) which centre each one was, -1 new
    gain: float  # of the mean silhouette
    error: float


def silhouette(lines: Floats, centres: Floats) -> Floats:
    """Simplified silhouette (Hruschka et al. 2004) of each line (n,): 1 - a / b, for distances a and b to the nearest
    centre and to the next; 0 where there is one centre only."""
    _, _, a, b = nearest(lines, centres)
    return 1.0 - np.sqrt(a / np.where(b > 0, b, 1.0)) if len(centres) > 1 else np.zeros(len(lines))


BETA = 0.5


def judged(learned: Floats, held: Floats, centres: Floats) -> tuple[Floats, Floats]:
    """Squared distance and silhouette of each person (n + m,): of those held out, and of those learned from, each with a centre that it had no part in."""
    label, _, a, b = nearest(np.concatenate((learned, held)), centres)
    n = len(learned)
    size = np.bincount(label[:n], minlength=len(centres))[label[:n]]
    a[:n] *= (size / np.maximum(size - 1, 1)) ** 2
    sil = 1.0 - np.sqrt(np.minimum(a / np.where(b > 0, b, 1.0), 1.0)) if len(centres) > 1 else np.zeros(len(a))
    return a, sil


def proposals(learned, held, centres, least, most, seed, worth, cold=(), swap=True):
    label, second, _, _ = nearest(learned, centres)
    base = judged(learned, held, centres)
    e0 = mean(base[0])
    out = []
    def add(event, at, other, moved, origin):
        if np.bincount(nearest(learned, moved)[0], minlength=len(moved)).min() < _fewest(learned) and event != "merge":
            return
        a, s = judged(learned, held, moved)
        each = (base[0] - a) / e0 + BETA * (s - base[1])
        gain = mean(each)
        error = np.sqrt(mean((each - gain) ** 2) / max(1, len(each)))
        gain = -np.log(mean(a) / e0) + BETA * mean(s - base[1])
        out.append(Proposal(event, at, other, moved, origin, gain, error))
    for event, at, other, start, origin in _starts(learned, label, second, centres, least, most, seed, worth):
        add(event, at, other, lloyd(learned, start, ROUNDS), origin)
    if swap and out:
        k = len(centres)
        splits = sorted((p for p in out if p.event == "split"), key=lambda p: -p.gain)[:2]
        merges = sorted((p for p in out if p.event == "merge"), key=lambda p: -p.gain)[:2]
        for p in splits:
            for q in merges:
                if p.at in (q.at, q.other): continue
                start = p.centres.copy(); start[q.other] = q.centres[q.origin == q.other][0]
                keep = np.delete(np.arange(k + 1), q.at)
                add("swap", p.at, q.at, lloyd(learned, start[keep], ROUNDS), p.origin[keep])
    for k in cold:
        best = min((lloyd(learned, plus_plus(learned, k, seed + j), 15) for j in range(1)), key=lambda c: mean(nearest(learned, c)[2]))
        add("cold", 0, -1, best, None)
    return out


def _starts(lines, label, second, centres, least, most, seed, worth):
    """The splits and merges that are worth a look: by what they would do to the error if nobody else moved."""
    k, fewest = len(centres), _fewest(lines)
    size = np.bincount(label, minlength=k)
    distance = ((lines - centres[label]) ** 2).sum(1)
    total = distance.sum()
    found = []
    for at in range(k if k < most else 0):
        if size[at] < 2 * fewest:
            continue
        two, error = halves(lines[label == at], seed + at)
        less = (distance[label == at].sum() - error) / total
        if less > LOOK * worth:
            start = np.concatenate((centres, two[1:]))
            start[at] = two[0]
            found.append((-less, "split", at, -1, start, np.r_[np.arange(k), -1]))
    pairs = set()
    for at in range(k if k > least else 0):
        other = int(np.bincount(second[label == at], minlength=k).argmax()) if size[at] else (at + 1) % k
        small, large = sorted((at, other), key=lambda i: (size[i], i))
        if other == at or (small, large) in pairs:
            continue
        pairs.add((small, large))
        both = max(1, size[at] + size[other])
        apart = ((centres[at] - centres[other]) ** 2).sum()
        more = size[at] * size[other] / both * apart / total  # Ward 1963
        if more < worth / LOOK:
            start = centres.copy()
            start[large] = (size[at] * centres[at] + size[other] * centres[other]) / both
            left = np.delete(np.arange(k), small)
            found.append((more, "merge", small, large, start[left], left))
    for kind in ("split", "merge"):
        for one in sorted((one for one in found if one[1] == kind), key=lambda one: one[0])[:MOST]:
            yield one[1:]


def halves(lines: Floats, seed: int) -> Floats:
    """Two centres (2, D) of some lines, the one with more of them first."""
    best, least = None, np.inf
    for attempt in range(TRIES):
        two = lloyd(lines, plus_plus(lines, 2, seed * TRIES + attempt), 8)
        label, _, distance, _ = nearest(lines, two)
        error = float(np.cumsum(distance)[-1])
        if error < least:
            best, least = (two if 2 * np.count_nonzero(label) <= len(label) else two[::-1]), error
    assert best is not None
    return best, least


def first(learned: Floats, held: Floats, least: int, most: int, seed: int, starts: int = 4) -> Floats:
    """Centres for people of whom nothing is known yet: of each k the best of some starts, of these the one whose
    silhouette is the best."""
    chosen, worth = None, -np.inf
    for k in range(least, most + 1):
        if k > least and len(learned) < k * FEWEST:
            break
        best, error = None, np.inf
        for attempt in range(starts):
            centres = lloyd(learned, plus_plus(learned, k, seed + attempt), 30)
            found = mean(nearest(learned, centres)[2])
            if found < error:
                best, error = centres, found
        assert best is not None
        a, sl = judged(learned, held, best)
        found = -np.log(max(1e-12, mean(a))) + BETA * mean(sl) - 0.036 * k
        if found > worth:
            chosen, worth = best, found
    assert chosen is not None
    return chosen


def _fewest(lines: Floats) -> float:
    return max(FEWEST, SMALLEST * len(lines))


def mean(values: Floats) -> float:
    """In one fixed order; 0 of nothing."""
    return float(np.cumsum(values)[-1]) / len(values) if len(values) else 0.0
