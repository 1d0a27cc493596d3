"""Random histories have the changes, reasons and heads that whole columns give."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from online_models.assignment import Assignment
from state import rows
from state.history import ERASED, EXIT, FORGOTTEN, SWAP, Steps
from state.layout import UNASSIGNED, Heads
from streams.processing.outputs import segment_changes
from streams.processing.outputs.segment_changes import SourceRecord
from tests.build import foretelling, version
from tests.numpy_core import segment_changes as numpy_changes

USERS = 12


def random_heads(rng: np.random.Generator) -> Heads:
    """Heads of users: in a segment of the version, in one that it does not have, in none."""
    heads = rows.join([None] * USERS).heads
    heads["segment"] = rng.integers(UNASSIGNED, 6, USERS)
    heads["birth"] = rng.integers(0, 1000, USERS)
    heads["born"] = rng.integers(0, 6_000_000, USERS)
    heads["seq"] = rng.integers(0, 5, USERS)
    heads["model"] = rng.integers(0, 3, USERS)
    return heads


def random_steps(rng: np.random.Generator, n: int) -> Steps:
    """Steps of users that each have some: events, exits, at most a swap before and an end after them."""
    row = np.sort(rng.integers(0, USERS, n))
    first, last = np.r_[True, row[1:] != row[:-1]][:n], np.r_[row[1:] != row[:-1], True][:n]
    event = np.where(rng.random(n) < 0.3, EXIT, np.arange(n))
    event[first & (rng.random(n) < 0.3)] = SWAP
    event[last & (rng.random(n) < 0.2)] = rng.choice([FORGOTTEN, ERASED])
    windows = rng.integers(0, 5, (n, 4, len(rows.CODEC.vocabulary.measures)))
    return Steps(
        row=row,
        now=1_700_000_000_000 + np.sort(rng.integers(0, 10**9, n)),
        event=event,
        late=(rng.random(n) < 0.2) & (event >= 0),
        windows=windows,
        hours=np.zeros((n, 8), np.int64),
        ordinal=np.zeros(n, np.int64),
        lifetime=np.zeros((n, 3), np.int64),
        outcome=np.zeros(n, bool),
    )


def random_assignment(rng: np.random.Generator, n: int, width: int) -> Assignment:
    """Segments, and features on a coarse grid, so that weights are often equal."""
    features: NDArray[np.float64] = rng.integers(-4, 5, (n, width)) / 2
    segment, runner_up = rng.integers(0, 4, (2, n)).astype(np.int32)
    return Assignment(segment, runner_up, rng.random(n), features)


@pytest.mark.parametrize("seed", range(40))
def test_changes_and_heads_are_those_of_whole_columns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.choice([1, 2, 20, 200]))
    model = version(3, seed % 3)
    heads, steps, assigned = random_heads(rng), random_steps(rng, n), random_assignment(rng, n, len(model.names))
    expected_heads = heads.copy()
    found = segment_changes.detect(heads, steps, assigned, model.number)
    expected = numpy_changes.detect(expected_heads, steps, assigned, model.number)
    assert heads.tobytes() == expected_heads.tobytes()
    for name in segment_changes.Changes.__slots__:
        mine, other = getattr(found, name), getattr(expected, name)
        assert (mine.dtype, mine.tolist()) == (other.dtype, other.tolist()), name


@pytest.mark.parametrize("seed", range(10))
def test_reasons_are_those_of_whole_columns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = version(3, seed)
    steps, assigned = random_steps(rng, 100), random_assignment(rng, 100, len(model.names))
    changes = segment_changes.detect(random_heads(rng), steps, assigned, model.number)
    new = np.where(changes.to_segment == UNASSIGNED, model.ids[0], changes.to_segment)
    expected = numpy_changes.reasons(model, assigned.features[changes.step], changes.from_segment, new)
    assert [list(one) for one in segment_changes.reasons(model, assigned.features, changes)] == expected


def test_records_say_what_changed() -> None:
    """Of three changes: by an event, by a new version, and to none."""
    model = foretelling(version(3, 1))
    heads = rows.join([None] * 3).heads
    heads["segment"], heads["seq"], heads["model"], heads["born"] = [UNASSIGNED, 1, 2], [0, 4, 5], 2, 5_666_666
    steps = random_steps(np.random.default_rng(0), 3)
    steps.row[:], steps.event[:], steps.late[:] = [0, 1, 2], [7, SWAP, ERASED], False
    steps.now[:] = 1_700_000_000_001
    assigned = random_assignment(np.random.default_rng(1), 3, len(model.names))
    assigned.segment[:] = [0, 2, 3]
    changes = segment_changes.detect(heads, steps, assigned, model.number)
    users = [b"ann", 'b"\n\u00fc'.encode(), b"carl"]
    causes = [SourceRecord("clickstream", 0, 7), None, None]
    found = segment_changes.change_records(changes, users, assigned, model, causes)
    assert [key for key, _, _ in found] == users
    events = [json.loads(change) for _, change, _ in found]
    assert len({event["id"] for event in events}) == 3
    assert {event["type"] for event in events} == {"shoal.segment-change"}
    assert {event["time"] for event in events} == {"2023-11-14T22:13:20.001Z"}
    assert [event["subject"] for event in events] == [user.decode() for user in users]
    data = [event["data"] for event in events]
    assert [(one["from"], one["to"], one["cause"], one["seq"]) for one in data] == [
        (None, 0, "first", 1),
        (1, 2, "model", 5),
        (2, None, "erased", 6),
    ]
    assert [one["previous_version"] for one in data] == [None, 2, None]
    assert data[0]["record"] == {"topic": "clickstream", "partition": 0, "offset": 7}
    assert [len(one["features"]) for one in data] == [3, 3, 0]
    assert (data[2]["margin"], data[2]["runner_up"], data[2]["predicted"]) == (None, None, None)
    assert data[0]["margin"] == assigned.margin[0]
    current = [value and json.loads(value)["data"] for _, _, value in found]
    assert current == [
        {"user": "ann", "segment": 0, "since": "2023-11-14T22:13:20.001Z", "seq": 1, "model_version": 3},
        {"user": users[1].decode(), "segment": 2, "since": "2023-11-14T22:13:20.001Z", "seq": 5, "model_version": 3},
        None,
    ]
