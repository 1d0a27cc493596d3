"""The panel: whom it holds, where they were, and what a version changes of that."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from online_models.learner.panel import HISTORY, Panel
from online_models.training_rows import TrainingRows
from tests.build import training_rows
from tests.people import DAY, L, R, learned, rows_in_time, users


def rows_of(user: np.ndarray, now: list[int], first: float = 0.0) -> TrainingRows:
    raw = np.arange(first, first + len(user) * (2 * R + L), dtype=float).reshape(len(user), -1) + 1
    return replace(training_rows(raw, np.array(now)), user=user)


def test_the_panel_holds_the_newest_row_of_each_person_and_comes_back_as_it_was() -> None:
    who = users(3)
    panel = Panel(2 * R + L, [0.0] * (R + L), 10)
    panel.add(rows_of(who[[0, 1, 0]], [5, 6, 7]), None)
    panel.add(rows_of(who[[2]], [9], 100.0), None)
    assert panel.user.tolist() == who.tolist()
    assert panel.now.tolist() == [7, 6, 9]
    assert panel.raw[:, 0].tolist() == [15.0, 8.0, 101.0]
    again = Panel(2 * R + L, [0.0] * (R + L), 10)
    again.restore(panel.state())
    for one in (panel, again):
        one.add(rows_of(who[[1]], [20], 200.0), None)
    assert msgspec.msgpack.encode(again.state()) == msgspec.msgpack.encode(panel.state())


def test_those_who_stay_away_leave_and_of_many_the_smallest_pseudonyms_stay() -> None:
    who = users(40)
    panel = Panel(2 * R + L, [0.0] * (R + L), 10)
    panel.add(rows_of(who, [0] * 10 + [20 * DAY] * 30), None)
    panel.advance(20 * DAY, 0)
    stay = sorted(who[10:].tolist())[:10]
    assert sorted(panel.user.tolist()) == stay


def test_whom_a_version_moves_was_always_there() -> None:
    """Only what people did is their past: a version that names things anew must not look like people who moved."""
    version = learned(rows_in_time(3, 300))[-1]
    panel = Panel(2 * R + L, [0.0] * (R + L), 100)
    panel.add(rows_in_time(3, 60).take(slice(0, 60)), version)
    for day in range(3):
        panel.advance(day * DAY, 0)
    held = panel.segment.copy()
    other = msgspec.structs.replace(version, ids=[100 + one for one in version.ids])
    panel.reassign(other)
    assert (panel.segment == held + 100).all()
    assert (panel.days_ago() == panel.segment).all()


def test_a_look_a_day_tells_where_people_were() -> None:
    panel = Panel(2 * R + L, [0.0] * (R + L), 100)
    panel.add(rows_of(users(2), [0, 0]), None)
    panel.segment[:] = [1, 2]
    for day in range(HISTORY + 3):
        panel.advance(day * DAY, 0)
        panel.now[:] = day * DAY
        if day == 2:
            panel.segment[0] = 9
    assert panel.days_ago().tolist() == [9, 2]


def test_those_who_come_stay_in_a_panel_that_is_too_small() -> None:
    who = users(60)
    panel = Panel(2 * R + L, [0.0] * (R + L), 10)
    order = np.argsort(who.view(">u8").reshape(-1, 2)[:, 0])
    panel.add(rows_of(who[order], [0] * 50 + [8 * DAY] * 10), None)
    panel.advance(8 * DAY, 0)
    assert panel.active(8 * DAY).all()
