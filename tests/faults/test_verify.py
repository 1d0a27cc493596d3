"""The oracle agrees with a good run, and the verifier catches what is planted in one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from state import rows
from tests.faults import models
from tests.faults.evidence import Evidence
from tests.faults.played import play
from tests.faults.verify import verify
from tests.support.events.squeezed_month import Shape, stream

Plant = Callable[[Evidence], None]


def _run(seed: int, shape: Shape) -> Evidence:
    records = stream(seed, shape)
    return play(records, models.learned(records), seed)


@pytest.fixture(scope="module")
def good() -> Evidence:
    return _run(1, Shape(events=5_000, users=400))


@pytest.mark.parametrize(
    "shape",
    [
        Shape(events=5_000, users=400),
        Shape(events=2_500, users=200, hot=True),
        Shape(events=2_000, users=300, cold=2_000),
    ],
)
def test_a_good_run_is_good(shape: Shape) -> None:
    report = verify(_run(2, shape))
    assert report.faults() == {}, report.examples
    assert {"first", "behaviour", "model", "expiry"} <= report.causes.keys()
    assert report.users > 100


def _edit(evidence: Evidence, change: Callable[[np.ndarray, rows.Panes], None], which: int = 0) -> None:
    """Change heads and panes of a user's row."""
    user = sorted(evidence.rows)[which]
    joined = rows.join([evidence.rows[user]])
    panes = rows.panes(joined)
    change(joined.heads, panes)
    evidence.rows[user] = rows.cut(rows.pack(joined.heads, panes))[0]


def lose(evidence: Evidence) -> None:
    def one_less(heads: np.ndarray, panes: rows.Panes) -> None:
        at = int(np.flatnonzero(heads["totals"][0, :6])[0])
        heads["totals"][0, at] -= 1

    _edit(evidence, one_less)


def repeat(evidence: Evidence) -> None:
    def one_more(heads: np.ndarray, panes: rows.Panes) -> None:
        heads["totals"][0, 1] += 1

    _edit(evidence, one_more)


def lose_and_repeat(evidence: Evidence) -> None:
    """What one user has too much does not hide what another lacks."""
    lose(evidence)
    _edit(evidence, lambda heads, panes: heads["totals"].__setitem__((0, 0), heads["totals"][0, 0] + 1), 1)


def miscount(evidence: Evidence) -> None:
    """A cell of a user who still has a pane."""
    for user, row in evidence.early.items():
        joined = rows.join([row])
        panes = rows.panes(joined)
        if len(panes.start):
            panes.measures[-1, 2] += 1
            evidence.early[user] = rows.cut(rows.pack(joined.heads, panes))[0]
            return


def skip(evidence: Evidence) -> None:
    """A record of the log that no progress speaks of."""
    evidence.logs[0][0].append(replace(evidence.logs[0][0][-1], offset=evidence.logs[0][0][-1].offset + 1))


def forget(evidence: Evidence) -> None:
    user, _ = evidence.rows.popitem()
    del evidence.early[user]


def leave_out(evidence: Evidence) -> None:
    del evidence.changes[100], evidence.any_changes[100]


def invent(evidence: Evidence) -> None:
    more = evidence.changes[100]._replace(ident="no such id")
    evidence.changes.append(more)
    evidence.any_changes.append(more)


def send_twice(evidence: Evidence) -> None:
    evidence.changes.append(evidence.changes[100])
    evidence.any_changes.append(evidence.changes[100])


def _change(evidence: Evidence, **fields: object) -> None:
    evidence.changes[100] = evidence.any_changes[100] = evidence.changes[100]._replace(**fields)


def move_in_time(evidence: Evidence) -> None:
    _change(evidence, as_of=evidence.changes[100].as_of + 1)


def say_another_cause(evidence: Evidence) -> None:
    _change(evidence, cause="model" if evidence.changes[100].cause != "model" else "late")


def lose_letter(evidence: Evidence) -> None:
    evidence.letters.pop()


def repeat_letter(evidence: Evidence) -> None:
    evidence.letters.append(evidence.letters[0])


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (lose, {"lost": 1}),
        (repeat, {"repeated": 1}),
        (lose_and_repeat, {"lost": 1, "repeated": 1}),
        (skip, {"lost": 1}),
        (leave_out, {"missing": 1, "any_missing": 1}),
        (invent, {"invented": 1}),
        (send_twice, {"repeated_transitions": 1}),
        (lose_letter, {"letters": 1}),
        (repeat_letter, {"letters": 1}),
        (forget, {"wrong_users": 2}),
    ],
)
def test_it_counts_what_is_planted(good: Evidence, plant: Plant, found: dict[str, int]) -> None:
    planted = _copied(good)
    plant(planted)
    assert verify(planted).faults() == found


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (miscount, {"wrong_cells"}),
        (move_in_time, {"missing", "invented", "any_missing"}),
        (say_another_cause, {"missing", "invented", "any_missing"}),
    ],
)
def test_it_sees_what_is_planted(good: Evidence, plant: Plant, found: set[str]) -> None:
    planted = _copied(good)
    plant(planted)
    assert verify(planted).faults().keys() == found


def _copied(good: Evidence) -> Evidence:
    """Its own containers."""
    made = Evidence(**{field.name: copy.copy(getattr(good, field.name)) for field in fields(Evidence)})
    made.logs = {part: [list(log) for log in logs] for part, logs in good.logs.items()}
    return made
