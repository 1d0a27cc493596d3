"""What labels of people over time are worth, by the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from tests.quality.kinds import BOUNCER, NOBODY
from tests.quality.planted import APPEAR, DAY, PRICES, START, VANISH, Ints
from tests.quality.played import Data

SETTLED = 7 * DAY  # in its kind, as long as the features' longest ratio looks back
CHANGING = 0.3  # share of the days from which on things change
FOUND = 0.8  # F1 from which on a kind has its segment
Bools = NDArray[np.bool_]


@dataclass(slots=True)
class Labels:
    """What a contender said, (t, users) each; -1: in no segment."""

    now: Ints  # of the people as of each time
    again: Ints | None = None  # of the lines of a day before, by the model of each time
    before: Ints | None = None  # of the lines as of each time, by the model of 12 hours before


def days(data: Data) -> NDArray[np.float64]:
    return (data.times - START) / DAY


def judged(data: Data, i: int) -> Bools:
    """Active users whose kind is settled; one visit tells a bouncer."""
    now = int(data.times[i])
    kind, since = data.planted.kind_at(now), data.planted.since(now)
    return data.active(i) & (kind != NOBODY) & ((now - since >= SETTLED) | (kind == BOUNCER))


def index(data: Data, label: Ints) -> NDArray[np.float64]:
    """Adjusted Rand index of settled users at each time (t,); NaN before there are any, or labels."""
    out = np.full(len(data.times), np.nan)
    for i, now in enumerate(data.times.tolist()):
        who = judged(data, i) & (label[i] >= 0)
        if days(data)[i] >= 7 and who.sum() > 50:
            out[i] = adjusted_rand_score(data.planted.kind_at(now)[who], label[i][who])
    return out


def steady(data: Data) -> Bools:
    """Times at which the set of kinds stands still: a week after it changed, before it changes."""
    day, length = days(data), data.planted.days
    return (day >= CHANGING * length) & ((day <= VANISH * length) | (day >= APPEAR * length + 8))


def found_after(data: Data, label: Ints) -> float:
    """Days after the appearance of the new kind until some segment is it (F1 at least FOUND); infinity: never."""
    born = next(change for change in data.planted.changes if change.event == "born")
    for i in np.flatnonzero(days(data) >= born.day).tolist():
        if best_f1(data, i, label[i], born.kind) >= FOUND:
            return float(days(data)[i] - born.day)
    return float("inf")


def best_f1(data: Data, i: int, label: Ints, kind: int) -> float:
    """F1 of the segment that fits a kind best, among active users."""
    active = data.active(i) & (label >= 0)
    mine = data.planted.kind_at(int(data.times[i]))[active] == kind
    if not mine.any():
        return 0.0
    size = np.bincount(label[active])
    hit = np.bincount(label[active][mine], minlength=len(size))
    return float((2 * hit / np.maximum(size + mine.sum(), 1)).max())


def kind_of_segment(data: Data, i: int, label: Ints) -> dict[int, int]:
    """The kind that most settled users of each segment are of."""
    who = judged(data, i) & (label >= 0)
    kind = data.planted.kind_at(int(data.times[i]))
    return {int(one): int(np.bincount(kind[who & (label == one)]).argmax()) for one in np.unique(label[who])}


def switchers_right(data: Data, label: Ints) -> float:
    """Share of those who changed kind 7 to 10 days ago that lie in a segment of their new kind, over all times."""
    phases = data.planted.phases
    moved = np.flatnonzero(
        (phases.kind != NOBODY) & np.r_[False, (phases.user[1:] == phases.user[:-1]) & (phases.kind[:-1] != NOBODY)]
    )
    right = asked = 0
    for i, now in enumerate(data.times.tolist()):
        ago = now - phases.start[moved]
        at = moved[(ago >= 7 * DAY) & (ago <= 10 * DAY)]
        at = at[data.active(i)[phases.user[at]] & (label[i][phases.user[at]] >= 0)]
        if len(at):
            kind = kind_of_segment(data, i, label[i])
            right += sum(
                kind.get(int(label[i][u]), NOBODY) == k
                for u, k in zip(phases.user[at].tolist(), phases.kind[at].tolist(), strict=True)
            )
            asked += len(at)
    return right / asked if asked else float("nan")


def daily_churn(data: Data, labels: Labels) -> float:
    """Share of active people whose line of a day ago the model of now puts elsewhere than the model of then did."""
    if labels.again is None:
        return float("nan")
    found = [
        float((labels.again[i] != labels.now[i - 2])[data.active(i - 2)].mean())
        for i in np.flatnonzero(steady(data)).tolist()
        if i >= 2
    ]
    return float(np.mean(found))


def idle_churn(data: Data, labels: Labels) -> float:
    """Share of those quiet for a day whom twelve hours of learning put elsewhere."""
    if labels.before is None:
        return float("nan")
    found = []
    for i in np.flatnonzero(steady(data)).tolist():
        idle = data.active(i, 400) & ~data.active(i, 1)
        if idle.any():
            found.append(float((labels.before[i] != labels.now[i])[idle].mean()))
    return float(np.mean(found)) if found else float("nan")


def measures(data: Data, labels: Labels) -> dict[str, float]:
    """All that needs no second run."""
    found, day = index(data, labels.now), days(data)
    changing, priced = day >= CHANGING * data.planted.days, day >= PRICES * data.planted.days
    last = judged(data, -1) & (labels.now[-1] >= 0)
    return {
        "end": float(found[-1]),
        "prequential": float(np.nanmean(found[changing])),
        "least": float(np.nanmin(found[changing])),
        "last_quarter": float(np.nanmean(found[priced])),
        "found_after": found_after(data, labels.now),
        "switchers": switchers_right(data, labels.now),
        "churn_day": daily_churn(data, labels),
        "churn_idle": idle_churn(data, labels),
        "k": float(len(np.unique(labels.now[-1][last]))),
    }
