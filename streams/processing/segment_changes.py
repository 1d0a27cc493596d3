"""Segment changes: who moved from which segment to which, why, and by which features, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.assignment import Assignment
from online_models.prediction.first_day import in_first_day, predict
from online_models.segment_ids import centre_index
from online_models.version import Version
from state import history, rows, windows
from state.features import NAMES as FEATURE_NAMES
from state.history import Steps
from state.layout import Heads, Ints
from streams.processing.cloudevents import encoder, event_ids, rfc3339

CAUSES = ("first", "behaviour", "late", "model", "expiry", "forgotten", "erased")
FIRST, BEHAVIOUR, LATE, MODEL, EXPIRY, FORGOTTEN, ERASED = range(7)
# causes of steps without an event, by their number in Steps.event, which is below 0: an index from the end
_CAUSE_WITHOUT_EVENT = np.array([ERASED, FORGOTTEN, EXPIRY, MODEL], np.int8)
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


_EMPTY = np.zeros(0, np.int64)
NONE = Changes(
    row=_EMPTY,
    step=_EMPTY,
    now=_EMPTY,
    birth=_EMPTY,
    born=_EMPTY,
    seq=_EMPTY,
    from_segment=_EMPTY,
    to_segment=_EMPTY,
    cause=_EMPTY.astype(np.int8),
    judged_by=_EMPTY,
)


class Reason(msgspec.Struct):
    """A feature that speaks for the change: its scaled value, and how much it says, in squared scaled units."""

    feature: str
    value: float
    weight: float


class Predicted(msgspec.Struct):
    """The segment of a new user at the end of the first day, and its probability."""

    segment: int
    probability: float


class SourceRecord(msgspec.Struct):
    """The source record that caused a change."""

    topic: str
    partition: int
    offset: int


class _Change(msgspec.Struct, rename={"from_": "from"}, kw_only=True):
    user: str
    seq: int
    from_: int | None
    to: int | None
    cause: str
    as_of: str
    model_version: int
    previous_version: int | None = None
    margin: float | None = None
    runner_up: int | None = None
    features: list[Reason] = msgspec.field(default_factory=list)
    predicted: Predicted | None = None  # of users in their first day, where the version has a model for it
    record: SourceRecord | None = None


class _Current(msgspec.Struct):
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
    first = np.flatnonzero(np.r_[True, steps.row[1:] != steps.row[:-1]])
    last = np.r_[first[1:], len(steps.row)] - 1
    touched = steps.row[first]
    segment = np.where(steps.event <= history.FORGOTTEN, rows.UNASSIGNED, assigned.segment).astype(np.int64)
    previous = np.empty(len(segment), np.int64)
    previous[1:] = segment[:-1]
    previous[first] = heads["segment"][touched]
    step = np.flatnonzero(previous != segment)
    row, now, from_segment = steps.row[step], steps.now[step], previous[step]
    first_change = np.flatnonzero(np.r_[True, row[1:] != row[:-1]][: len(row)])  # of each row that has one
    count = np.diff(np.r_[first_change, len(row)])
    within_row = np.arange(len(row)) - np.repeat(first_change, count)
    seq = heads["seq"][row].astype(np.int64) + within_row + 1
    cause = _causes(steps, step, from_segment)
    judged_by = heads["model"][row].astype(np.int64)
    last_change = first_change + count - 1
    for name, value in (("seq", seq), ("since", now), ("frm", from_segment), ("cause", cause)):
        heads[name][row[last_change]] = value[last_change]
    heads["change_model"][row[last_change]] = number
    heads["segment"][touched] = segment[last]
    heads["model"][touched] = number
    return Changes(
        row=row,
        step=step,
        now=now,
        birth=heads["birth"][row],
        born=heads["born"][row].astype(np.int64) * windows.UNIT,
        seq=seq,
        from_segment=from_segment,
        to_segment=segment[step],
        cause=cause,
        judged_by=judged_by,
    )


def _causes(steps: Steps, step: Ints, from_segment: Ints) -> NDArray[np.int8]:
    """Why the segment changes at each step (c,): index into CAUSES."""
    event = steps.event[step]
    cause = np.where(steps.late[step], LATE, BEHAVIOUR)
    cause = np.where(event < 0, _CAUSE_WITHOUT_EVENT[np.minimum(event, -1)], cause)
    return np.where(from_segment == rows.UNASSIGNED, FIRST, cause).astype(np.int8)


def reasons(version: Version, features: NDArray[np.float64], old: Ints, new: Ints) -> list[list[Reason]]:
    """For each change the features that speak most for the new segment against the old one.

    features (c, F), scaled; old, new (c,): segments; for an old one that the version does not have, the mean of all
    stands. A feature's weight is how much farther it lies from the old segment's mean than from the new one's, squared.
    """
    profile = version.profile
    mean = np.zeros(profile.shape[1])
    for centroid in profile:  # one after the other: the order of a sum of floats is fixed
        mean += centroid
    mean /= len(profile)
    old_index = centre_index(version.ids, old)
    old_profile = np.where((old_index >= 0)[:, None], profile[np.maximum(old_index, 0)], mean)
    weight = (features - old_profile) ** 2 - (features - profile[centre_index(version.ids, new)]) ** 2
    best = np.argsort(-weight, axis=1, kind="stable")[:, :FEATURES_SHOWN]
    values = np.round(np.take_along_axis(features, best, 1), 6).tolist()
    weights = np.round(np.take_along_axis(weight, best, 1), 6).tolist()
    names = FEATURE_NAMES
    return [
        [Reason(names[j], value, weight) for j, value, weight in zip(*change, strict=True)]
        for change in zip(best.tolist(), values, weights, strict=True)
    ]


def predict_first_days(changes: Changes, assigned: Assignment, version: Version) -> list[Predicted | None]:
    """For each change of a user in the first day the segment at its end; None for others."""
    predicted: list[Predicted | None] = [None] * len(changes)
    if version.first_day is None:
        return predicted
    young = np.flatnonzero(in_first_day(changes.now, changes.born) & (changes.to_segment != rows.UNASSIGNED))
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
    new = np.where(changes.to_segment == rows.UNASSIGNED, version.ids[0], changes.to_segment)
    features = reasons(version, assigned.features[changes.step], changes.from_segment, new)
    predicted = predict_first_days(changes, assigned, version)
    keys = [users[row] for row in changes.row.tolist()]
    births, seqs = changes.birth.tolist(), changes.seq.tolist()
    from_segments, to_segments = changes.from_segment.tolist(), changes.to_segment.tolist()
    judged_by = changes.judged_by.tolist()
    margins = assigned.margin[changes.step].tolist()
    runners_up = assigned.runner_up[changes.step].tolist()
    change_ids = event_ids(keys, births, seqs, "segment-change")
    current_ids = event_ids(keys, births, seqs, "segment")
    encode_change, encode_current = encoder("segment-change"), encoder("segment")
    records: list[tuple[bytes, bytes, bytes | None]] = []
    for i, (key, time, cause) in enumerate(zip(keys, rfc3339(changes.now), changes.cause.tolist(), strict=True)):
        user, to = key.decode(), to_segments[i]
        change = _Change(
            user=user,
            seq=seqs[i],
            from_=None if from_segments[i] == rows.UNASSIGNED else from_segments[i],
            to=None if to == rows.UNASSIGNED else to,
            cause=CAUSES[cause],
            as_of=time,
            model_version=version.number,
        )
        if to == rows.UNASSIGNED:
            records.append((key, encode_change(change_ids[i], user, time, change), None))
            continue
        change.previous_version = judged_by[i] if cause == MODEL else None
        change.margin, change.runner_up = margins[i], runners_up[i]
        change.features, change.predicted, change.record = features[i], predicted[i], causes[i]
        current = _Current(user, to, time, seqs[i], version.number)
        current_value = encode_current(current_ids[i], user, time, current)
        records.append((key, encode_change(change_ids[i], user, time, change), current_value))
    return records
