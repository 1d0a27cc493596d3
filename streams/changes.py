"""Segment changes: who moved, why, and with what evidence, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from online_models.version import Assignment, Version
from state import rows, vector
from state.fold import Steps
from state.rows import Heads, Ints
from streams.cloudevents import encode, event_id, rfc3339


@dataclass(frozen=True, slots=True)
class Change:
    """One user's move at one step; segments are numbers of the model, None for none."""

    row: int
    seq: int
    birth: int
    frm: int | None
    to: int | None
    cause: str  # first, behaviour, late, model (expiry, erased, forgotten come with time)
    now: int  # ms: as of when it was judged
    step: int


def find(heads: Heads, steps: Steps, assigned: Assignment, number: int) -> list[Change]:
    """Changes in step order; updates segment, since, seq and model in the heads (in place)."""
    count = len(steps.row)
    if not count:
        return []
    first = np.flatnonzero(np.r_[True, steps.row[1:] != steps.row[:-1]])
    last = np.r_[first[1:], count] - 1
    touched = steps.row[first]
    segment = assigned.segment.astype(np.int64)
    previous = np.empty(count, np.int64)
    previous[1:] = segment[:-1]
    previous[first] = heads["segment"][touched]
    moved = np.flatnonzero(previous != segment)
    found = []
    seq, since, birth = heads["seq"], heads["since"], heads["birth"]
    for step in moved.tolist():
        row = int(steps.row[step])
        seq[row] += 1
        since[row] = steps.now[step]
        frm = int(previous[step])
        if frm == rows.UNASSIGNED:
            cause = "first"
        elif steps.event[step] < 0:
            cause = "model"
        else:
            cause = "late" if steps.late[step] else "behaviour"
        to = int(segment[step])
        was = None if frm == rows.UNASSIGNED else frm
        found.append(Change(row, int(seq[row]), int(birth[row]), was, to, cause, int(steps.now[step]), step))
    heads["segment"][touched] = segment[last]
    heads["model"][touched] = number
    return found


def reasons(
    version: Version, features: np.ndarray, frm: Ints, to: Ints, top: int = 3
) -> list[list[dict[str, float | str]]]:
    """For each line the features that speak most for `to` against `frm` (-1: the mean of the centres).

    features (c, F); a feature's weight is how much farther it lies from the old centre than from the new, in
    squared scaled units.
    """
    centres = version.centres
    mean = np.zeros(centres.shape[1])
    for centre in centres:
        mean += centre
    mean /= len(centres)
    old = np.where((frm >= 0)[:, None], centres[np.maximum(frm, 0)], mean)
    weight = (features - old) ** 2 - (features - centres[to]) ** 2
    best = np.argsort(-weight, axis=1, kind="stable")[:, :top]
    return [
        [{"feature": vector.NAMES[j], "value": round(float(x[j]), 6), "weight": round(float(w[j]), 6)} for j in order]
        for x, w, order in zip(features, weight, best.tolist(), strict=True)
    ]


def documents(
    found: Sequence[Change],
    users: Sequence[bytes],
    steps: Steps,
    assigned: Assignment,
    version: Version,
    sources: Sequence[dict[str, object] | None],
) -> list[tuple[bytes, bytes, bytes]]:
    """(key, segment-changes record, segments record) of each change; sources: the record that caused it."""
    if not found:
        return []
    at = np.array([change.step for change in found])
    frm = np.array([-1 if change.frm is None else change.frm for change in found])
    to = np.array([change.to for change in found])
    why = reasons(version, assigned.features[at], frm, to)
    out = []
    for change, features, source in zip(found, why, sources, strict=True):
        user = users[change.row]
        subject = user.decode()
        data = {
            "user": subject,
            "seq": change.seq,
            "from": change.frm,
            "to": change.to,
            "cause": change.cause,
            "as_of": rfc3339(change.now),
            "model_version": version.number,
            "margin": float(assigned.margin[change.step]),
            "runner_up": int(assigned.runner_up[change.step]),
            "features": features,
            "record": source,
        }
        ident = event_id(user, change.birth, change.seq, "segment-change")
        current = {
            "user": subject, "segment": change.to, "since": rfc3339(change.now), "seq": change.seq,
            "model_version": version.number,
        }  # fmt: skip
        out.append(
            (
                user,
                encode("segment-change", ident, subject, change.now, data),
                encode("segment", event_id(user, change.birth, change.seq, "segment"), subject, change.now, current),
            )
        )
    return out
