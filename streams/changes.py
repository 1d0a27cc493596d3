"""Segment changes: who moved, why, and with what evidence, step by step."""

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
from state import fold, rows, windows
from state.features import NAMES as FEATURE_NAMES
from state.fold import Steps
from state.rows import Heads, Ints
from streams.cloudevents import encoder, event_ids, rfc3339

CAUSES = ("first", "behaviour", "late", "model", "expiry", "forgotten", "erased")
FIRST, BEHAVIOUR, LATE, MODEL, EXPIRY, FORGOTTEN, ERASED = range(7)
_BY_STEP = np.array([ERASED, FORGOTTEN, EXPIRY, MODEL], np.int8)  # steps without an event, from fold.ERASED up
SHOWN = 3  # features that a change names


@dataclass(frozen=True, slots=True)
class Changes:
    """c moves in step order; segments are numbers of the model, -1 for none."""

    row: Ints
    step: Ints
    now: Ints  # ms: as of when it was judged
    birth: Ints
    born: Ints  # ms: the user's first event, floored to five minutes; 0: not known
    seq: Ints  # of the user's changes, from 1
    frm: Ints
    to: Ints
    cause: NDArray[np.int8]  # index into CAUSES
    version: Ints  # under which the segment before was judged last, where the cause is the model

    def __len__(self) -> int:
        return len(self.row)


_NO = np.zeros(0, np.int64)
NONE = Changes(_NO, _NO, _NO, _NO, _NO, _NO, _NO, _NO, _NO.astype(np.int8), _NO)


class Reason(msgspec.Struct):
    """A feature that speaks for the move: its scaled value, and how much it says, in squared scaled units."""

    feature: str
    value: float
    weight: float


class Predicted(msgspec.Struct):
    """Where a user in the first day after the first event stands at its end, and how probable that is."""

    segment: int
    probability: float


class Record(msgspec.Struct):
    """The source record that caused a change."""

    topic: str
    partition: int
    offset: int


class _Change(msgspec.Struct, rename={"frm": "from"}):
    user: str
    seq: int
    frm: int | None
    to: int | None
    cause: str
    as_of: str
    model_version: int
    previous_version: int | None
    margin: float | None
    runner_up: int | None
    features: list[Reason]
    predicted: Predicted | None  # of young users, where the version has a model for it
    record: Record | None


class _Current(msgspec.Struct):
    user: str
    segment: int | None
    since: str
    seq: int
    model_version: int


def find(heads: Heads, steps: Steps, assigned: Assignment, number: int) -> Changes:
    """Changes in step order; updates the segment and its last change in the heads (in place)."""
    first = np.flatnonzero(np.r_[True, steps.row[1:] != steps.row[:-1]])
    last = np.r_[first[1:], len(steps.row)] - 1
    touched = steps.row[first]
    segment = np.where(steps.event <= fold.FORGOTTEN, rows.UNASSIGNED, assigned.segment).astype(np.int64)
    previous = np.empty(len(segment), np.int64)
    previous[1:] = segment[:-1]
    previous[first] = heads["segment"][touched]
    step = np.flatnonzero(previous != segment)
    row, now, frm = steps.row[step], steps.now[step], previous[step]
    start = np.flatnonzero(np.r_[True, row[1:] != row[:-1]][: len(row)])
    count = np.diff(np.r_[start, len(row)])
    seq = heads["seq"][row].astype(np.int64) + np.arange(len(row)) - np.repeat(start, count) + 1
    event = steps.event[step]
    cause = np.where(steps.late[step], LATE, BEHAVIOUR)
    cause = np.where(event < 0, _BY_STEP[np.minimum(event, -1)], cause)
    cause = np.where(frm == rows.UNASSIGNED, FIRST, cause).astype(np.int8)
    version = heads["model"][row].astype(np.int64)
    end = start + count - 1
    for name, value in (("seq", seq), ("since", now), ("frm", frm), ("cause", cause)):
        heads[name][row[end]] = value[end]
    heads["change_model"][row[end]] = number
    heads["segment"][touched] = segment[last]
    heads["model"][touched] = number
    born = heads["born"][row].astype(np.int64) * windows.UNIT
    return Changes(row, step, now, heads["birth"][row], born, seq, frm, segment[step], cause, version)


def reasons(version: Version, features: NDArray[np.float64], frm: Ints, to: Ints) -> list[list[Reason]]:
    """For each line the features that speak most for `to` against `frm` (no segment of this version: the mean of all).

    features (c, F); a feature's weight is how much farther it lies from the old segment's mean than from the new one's.
    """
    profile = version.profile
    mean = np.zeros(profile.shape[1])
    for line in profile:
        mean += line
    mean /= len(profile)
    place = centre_index(version.ids, frm)
    old = np.where((place >= 0)[:, None], profile[np.maximum(place, 0)], mean)
    weight = (features - old) ** 2 - (features - profile[centre_index(version.ids, to)]) ** 2
    best = np.argsort(-weight, axis=1, kind="stable")[:, :SHOWN]
    value = np.round(np.take_along_axis(features, best, 1), 6).tolist()
    weights = np.round(np.take_along_axis(weight, best, 1), 6).tolist()
    names = FEATURE_NAMES
    return [
        [Reason(names[j], x, w) for j, x, w in zip(*line, strict=True)]
        for line in zip(best.tolist(), value, weights, strict=True)
    ]


def foretold(found: Changes, assigned: Assignment, version: Version) -> list[Predicted | None]:
    """Of each change what becomes of the user, where it is young."""
    out: list[Predicted | None] = [None] * len(found)
    if version.first_day is not None:
        at = np.flatnonzero(in_first_day(found.now, found.born) & (found.to != rows.UNASSIGNED))
        if len(at):
            segment, probability = predict(version.first_day, assigned.features[found.step[at]], found.to[at])
            told = zip(at.tolist(), segment.tolist(), np.round(probability, 6).tolist(), strict=True)
            for i, where, chance in told:
                out[i] = Predicted(where, chance)
    return out


def documents(
    found: Changes, users: Sequence[bytes], assigned: Assignment, version: Version,
    sources: Sequence[Record | None],
) -> list[tuple[bytes, bytes, bytes | None]]:  # fmt: skip
    """(key, segment-changes record, segments record) of each change; sources: the record that caused it. A user who
    is gone leaves a change to null and a tombstone in segments."""
    if not len(found):
        return []
    to = np.where(found.to == rows.UNASSIGNED, version.ids[0], found.to)
    why, ends = reasons(version, assigned.features[found.step], found.frm, to), foretold(found, assigned, version)
    times, keys = rfc3339(found.now), [users[row] for row in found.row.tolist()]
    births, seqs = found.birth.tolist(), found.seq.tolist()
    change, current = encoder("segment-change"), encoder("segment")
    out: list[tuple[bytes, bytes, bytes | None]] = []
    for key, ident, twin, time, seq, frm, to, cause, before, margin, runner_up, features, end, source in zip(
        keys, event_ids(keys, births, seqs, "segment-change"), event_ids(keys, births, seqs, "segment"), times, seqs,
        found.frm.tolist(), found.to.tolist(), found.cause.tolist(), found.version.tolist(),
        assigned.margin[found.step].tolist(), assigned.runner_up[found.step].tolist(), why, ends, sources,
        strict=True,
    ):  # fmt: skip
        user, was = key.decode(), None if frm == rows.UNASSIGNED else frm
        if to == rows.UNASSIGNED:
            gone = _Change(user, seq, was, None, CAUSES[cause], time, version.number, None, None, None, [], None, None)
            out.append((key, change(ident, user, time, gone), None))
            continue
        previous = before if cause == MODEL else None
        moved = _Change(
            user, seq, was, to, CAUSES[cause], time, version.number, previous, margin, runner_up, features, end, source
        )
        stands = _Current(user, to, time, seq, version.number)
        out.append((key, change(ident, user, time, moved), current(twin, user, time, stands)))
    return out
