"""Segment changes and their reasons on whole columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from online_models.assignment import Assignment
from online_models.segment_ids import centre_index
from online_models.version import Version
from state import history, rows, windows
from state.features import NAMES as FEATURE_NAMES
from state.history import Steps
from state.layout import Heads, Ints
from streams.processing.outputs.segment_changes import (
    BEHAVIOUR,
    ERASED,
    EXPIRY,
    FEATURES_SHOWN,
    FIRST,
    FORGOTTEN,
    LATE,
    MODEL,
    Changes,
    Reason,
)

# causes of steps without an event, by their number in Steps.event, which is below 0: an index from the end
_CAUSE_WITHOUT_EVENT = np.array([ERASED, FORGOTTEN, EXPIRY, MODEL], np.int8)


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
