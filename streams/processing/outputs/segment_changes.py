"""Segment changes: who moved from which segment to which, why, and by which features, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.assignment import Assignment
from online_models.prediction.first_day import in_first_day, predict
from online_models.segment_ids import centre_index
from online_models.version import Version
from state import history
from state.compiled import compiled
from state.features import NAMES as FEATURE_NAMES
from state.history import Steps
from state.layout import UNASSIGNED, Heads, Ints
from state.windows import UNIT
from streams.processing.outputs.cloudevents import encode_events, identities, rfc3339

CAUSES = ("first", "behaviour", "late", "model", "expiry", "forgotten", "erased")
FIRST, BEHAVIOUR, LATE, MODEL, EXPIRY, FORGOTTEN, ERASED = range(7)
FEATURES_SHOWN = 3  # features that a change names


@dataclass(frozen=True, slots=True)
class Changes:
    """c changes in the order of their steps; (c,) each. Segments are ids of the model version, -1 for none."""

    row: Ints
    step: Ints
    now: Ints  # ms: as of when the step was judged
    birth: Ints  # ordinal of the user's first event
    born: Ints  # ms: the user's first event, floored to five minutes; 0: not known
    seq: Ints  # of the user's changes, from 1
    from_segment: Ints
    to_segment: Ints
    cause: NDArray[np.int8]  # index into CAUSES
    judged_by: Ints  # model version by which the user was judged last before

    def __len__(self) -> int:
        return len(self.row)


# a change in memory: the fields of Changes
_CHANGE = np.dtype([(name, "i1" if name == "cause" else "i8") for name in Changes.__slots__], align=True)


def _columns(found: NDArray[np.void]) -> Changes:
    """Changes from records of _CHANGE."""
    return Changes(**{name: np.ascontiguousarray(found[name]) for name in Changes.__slots__})


NONE = _columns(np.zeros(0, _CHANGE))


# None of the structs below refers to itself: without the collector's bookkeeping they are made faster.


class Reason(msgspec.Struct, gc=False):
    """A feature that speaks for the change: its scaled value, and how much it says, in squared scaled units."""

    feature: str
    value: float
    weight: float


class Predicted(msgspec.Struct, gc=False):
    """The segment of a new user at the end of the first day, and its probability."""

    segment: int
    probability: float


class SourceRecord(msgspec.Struct, gc=False):
    """The source record that caused a change."""

    topic: str
    partition: int
    offset: int


class _Change(msgspec.Struct, rename={"from_": "from"}, gc=False):
    user: str
    seq: int
    from_: int | None
    to: int | None  # none: the user was forgotten or erased, and no field below the version is told
    cause: str
    as_of: str
    model_version: int
    previous_version: int | None
    margin: float | None
    runner_up: int | None
    features: tuple[Reason, ...]
    predicted: Predicted | None  # of users in their first day, where the version has a model for it
    record: SourceRecord | None


class _Current(msgspec.Struct, gc=False):
    user: str
    segment: int | None
    since: str
    seq: int
    model_version: int


def detect(heads: Heads, steps: Steps, assigned: Assignment, number: int) -> Changes:
    """Changes of segment in the order of the steps; updates the segments of heads and their last changes, in place.

    heads (u,); assigned: segments of the s steps by the model version of that number. A user who is forgotten or erased
    changes to no segment.
    """
    found = np.empty(len(steps.row), _CHANGE)
    count = _detect(heads, steps.row, steps.now, steps.event, steps.late, assigned.segment, number, found)
    return _columns(found[:count])


@compiled
def _detect(
    heads: Any,
    row: Ints,
    now: Ints,
    event: Ints,
    late: NDArray[np.bool_],
    assigned: NDArray[np.int32],
    number: int,
    found: Any,
) -> int:
    """Set found to the changes; returns how many there are."""
    count = 0
    for step in range(len(row)):
        head = heads[row[step]]
        before = np.int64(head["segment"])
        after = UNASSIGNED if event[step] <= history.FORGOTTEN else np.int64(assigned[step])
        if after == before:
            continue
        cause = FIRST if before == UNASSIGNED else _cause(event[step], late[step])
        head["seq"] += 1
        head["segment"], head["frm"], head["since"] = after, before, now[step]
        head["cause"], head["change_model"] = cause, number
        change = found[count]
        change["row"], change["step"], change["now"] = row[step], step, now[step]
        change["birth"], change["born"] = head["birth"], np.int64(head["born"]) * UNIT
        change["from_segment"], change["to_segment"] = before, after
        change["seq"], change["cause"], change["judged_by"] = head["seq"], cause, head["model"]
        count += 1
    for step in range(len(row)):
        heads[row[step]]["model"] = number
    return count


@compiled
def _cause(event: int, late: bool) -> int:
    """Why a user leaves a segment at a step: index into CAUSES; event as in Steps."""
    if event >= 0:
        return LATE if late else BEHAVIOUR
    if event == history.SWAP:
        return MODEL
    if event == history.EXIT:
        return EXPIRY
    return FORGOTTEN if event == history.FORGOTTEN else ERASED


def reasons(version: Version, features: NDArray[np.float64], changes: Changes) -> list[tuple[Reason, ...]]:
    """For each change the features that speak most for the new segment against the old one, FEATURES_SHOWN of them.

    features (s, F) of the steps, scaled. For an old segment that the version does not have, and for none, the mean of
    all stands; for a change to none the version's first segment. A feature's weight is how much farther it lies from
    the old segment's mean than from the new one's, squared.
    """
    profile = version.profile
    mean = np.zeros(profile.shape[1])
    for centroid in profile:  # one after the other: the order of a sum of floats is fixed
        mean += centroid
    mean /= len(profile)
    old = centre_index(version.ids, changes.from_segment)
    old[old < 0] = len(profile)
    new = np.maximum(centre_index(version.ids, changes.to_segment), 0)
    shape = len(changes), FEATURES_SHOWN
    best, value, weight = np.empty(shape, np.int64), np.empty(shape), np.empty(shape)
    _choose_features(features, changes.step, np.vstack((profile, mean)), old, new, best, value, weight)
    names = [FEATURE_NAMES[feature] for feature in best.reshape(-1).tolist()]
    values, weights = (np.round(numbers, 6).reshape(-1).tolist() for numbers in (value, weight))
    chosen = map(Reason, names, values, weights)
    return list(zip(*[chosen] * FEATURES_SHOWN, strict=True))  # as many of the chosen for each change


@compiled
def _choose_features(
    features: Any, step: Ints, profile: Any, old: Ints, new: Ints, best: Ints, value: Any, weight: Any
) -> None:
    """Set best, value and weight (c, FEATURES_SHOWN) to the features of the largest weights; of equals the lower index.

    profile (k + 1, F): mean features of segments; old, new (c,): which of them each change is from and to.
    """
    weights = np.empty(features.shape[1])
    for change in range(len(step)):
        line = step[change]
        for i in range(len(weights)):
            from_old = features[line, i] - profile[old[change], i]
            from_new = features[line, i] - profile[new[change], i]
            weights[i] = from_old * from_old - from_new * from_new
        for place in range(best.shape[1]):
            largest = 0
            for i in range(1, len(weights)):
                if weights[i] > weights[largest]:
                    largest = i
            best[change, place], weight[change, place] = largest, weights[largest]
            value[change, place] = features[line, largest]
            weights[largest] = -np.inf


def predict_first_days(changes: Changes, assigned: Assignment, version: Version) -> list[Predicted | None]:
    """For each change of a user in the first day the segment at its end; None for others."""
    predicted: list[Predicted | None] = [None] * len(changes)
    if version.first_day is None:
        return predicted
    young = np.flatnonzero(in_first_day(changes.now, changes.born) & (changes.to_segment != UNASSIGNED))
    if not len(young):
        return predicted
    features = assigned.features[changes.step[young]]
    segment, probability = predict(version.first_day, features, changes.to_segment[young])
    answers = zip(young.tolist(), segment.tolist(), np.round(probability, 6).tolist(), strict=True)
    for i, end_segment, chance in answers:
        predicted[i] = Predicted(end_segment, chance)
    return predicted


def change_records(
    changes: Changes,
    users: Sequence[bytes],
    assigned: Assignment,
    version: Version,
    causes: Sequence[SourceRecord | None],
) -> list[tuple[bytes, bytes, bytes | None]]:
    """(key, segment-changes record, segments record) of each change.

    users (u,): ids of the rows; assigned: of the steps; causes (c,): the record that caused each change. A user who is
    forgotten or erased leaves a change to null and a tombstone in segments.
    """
    if not len(changes):
        return []
    keys = [users[row] for row in changes.row.tolist()]
    names, times, seqs = [key.decode() for key in keys], rfc3339(changes.now), changes.seq.tolist()
    margins = assigned.margin[changes.step].tolist()
    runners_up = assigned.runner_up[changes.step].tolist()
    features = reasons(version, assigned.features, changes)
    ended = np.flatnonzero(changes.to_segment == UNASSIGNED).tolist()
    for i in ended:
        margins[i], runners_up[i], features[i] = None, None, ()
    segments, numbers = _or_none(changes.to_segment), repeat(version.number)
    change_data = map(
        _Change,
        names,
        seqs,
        _or_none(changes.from_segment),
        segments,
        [CAUSES[cause] for cause in changes.cause.tolist()],
        times,
        numbers,
        _or_none(np.where(changes.cause == MODEL, changes.judged_by, -1)),
        margins,
        runners_up,
        features,
        predict_first_days(changes, assigned, version),
        causes,
    )
    current_data = map(_Current, names, segments, times, seqs, numbers)
    identity = identities(keys, changes.birth.tolist(), seqs)
    values: list[bytes] = encode_events("segment-change", identity, names, times, change_data)
    current: list[bytes | None] = [*encode_events("segment", identity, names, times, current_data)]
    for i in ended:
        current[i] = None
    return list(zip(keys, values, current, strict=True))


def _or_none(numbers: Ints) -> list[int | None]:
    """Numbers (n,), None for those below 0."""
    return [None if number < 0 else number for number in numbers.tolist()]
