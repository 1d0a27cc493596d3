"""The compiled loop gives the same rows and steps as the core on whole columns that it replaced."""

from __future__ import annotations

import numpy as np
import pytest

from state import history, rows
from state.layout import NEVER
from tests.numpy_core import fold
from tests.numpy_core import recent_ids as numpy_recent_ids
from tests.numpy_core import rows as numpy_rows

START = 1_700_000_000_000
UNIT = 300_000
HISTORIES = 300


def random_events(rng: np.random.Generator, n: int, now: int, watermark: int, pace: int) -> history.Events:
    time = now + np.cumsum(rng.integers(0, pace, n))
    late = rng.random(n) < 0.25
    time -= late * rng.integers(0, int(rng.choice([600_000, 7_200_000, 40 * 86_400_000])), n)
    few = int(rng.choice([2, 12, 200]))
    kinds = rng.integers(0, 9, n).astype(np.int8)
    quantity = rng.choice([1, 1, 1, 2, 300, -1, 0], n)
    return history.Events(
        time=time,
        watermark=np.maximum.accumulate(np.r_[watermark, time - int(rng.choice([0, 300_000, 10_000_000]))])[:n],
        type=kinds,
        amount=rng.choice([100, 995, 1 << 33, 0], n) * quantity,
        quantity=quantity,
        event_id=rng.integers(0, few * 4, n).astype(np.uint64),
        session=rng.integers(0, few, n).astype(np.uint64),
        order=rng.integers(0, few, n).astype(np.uint64),
        category=rng.integers(0, 7, n).astype(np.uint32),
        brand=rng.integers(0, 7, n).astype(np.uint32),
        place=rng.integers(0, 3, (n, 3)).astype(np.uint32),
        block=time // 10_800_000 % 8,
        ordinal=np.arange(n) + 1000,
    )


def by_columns(
    stored: list[bytes | None], row_of: np.ndarray, events: history.Events, asked: history.Asked
) -> tuple[list[bytes], history.Steps, np.ndarray]:
    """The oracle: rows' bytes, steps, and the events (indices) that are no repeats, by row."""
    heads, panes, owner = numpy_rows.join(stored)
    order = np.argsort(row_of, kind="stable")
    new = numpy_recent_ids.first_sights(row_of[order], events.event_id[order], heads["ids"])
    order = order[new | (events.event_id[order] == 0)]
    row = row_of[order]
    for user in np.unique(row).tolist():
        if heads["birth"][user] < 0:
            first = order[row == user][0]
            heads["birth"][user], heads["born"][user] = events.ordinal[first], events.time[first] // UNIT
    columns = {name: getattr(events, name)[order] for name in events._fields if name not in ("event_id", "ordinal")}
    steps, panes, owner = fold.fold(heads, panes, owner, fold.Events(row, **columns), asked)
    return numpy_rows.cut(heads, panes, owner), steps, order


def random_asked(
    rng: np.random.Generator, stored: list[bytes | None], watermark: int, swept: int, latest: int
) -> history.Asked:
    """swept lies below the watermark of all events to come, as in a partition."""
    count = len(stored)
    known = np.array([row is not None for row in stored])
    mark = int(rng.integers(swept - 10**9, swept + 1))
    swap = (rng.random(count) < 0.3) & known
    clock = max([watermark, latest, *(rows.clock_of(row) for row in stored if row is not None)])
    edge = (clock // UNIT + 1 + int(rng.choice([0, 30, 20_000]))) * UNIT
    until = np.where((rng.random(count) < 0.5) & known, edge, NEVER)
    end = np.where((rng.random(count) < 0.2) & known, edge, NEVER)
    return history.Asked(swap, mark, swept, until, end, int(rng.choice([history.FORGOTTEN, history.ERASED])))


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_random_histories_give_the_same_rows_and_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    users = int(rng.integers(1, 6))
    stored: list[bytes | None] = [None] * users
    now, watermark, swept = START, START - 30 * 86_400_000, START - 40 * 86_400_000
    for _ in range(int(rng.integers(1, 7))):
        n = int(rng.choice([0, 1, 3, 30, 150]))
        events = random_events(rng, n, now, watermark, int(rng.choice([1000, 100_000, 3_600_000, 86_400_000])))
        swept = int(rng.integers(swept // UNIT, watermark // UNIT + 1)) * UNIT
        now = max(now, int(events.time.max(initial=0)))
        watermark = max(watermark, int(events.watermark.max(initial=0)))
        row_of = rng.integers(0, users, n)
        asked = history.asked_by_events(np.zeros(users, bool))
        if rng.random() < 0.5:
            asked = random_asked(rng, stored, watermark, swept, now)
        expected, steps, kept = by_columns(stored, row_of, events, asked)
        by_row = np.argsort(row_of, kind="stable")
        first_event = np.searchsorted(row_of[by_row], np.arange(users + 1))
        result = history.apply(rows.join(stored), events, by_row, first_event, asked)
        assert rows.cut(result.rows) == expected
        event = steps.event.copy()
        event[event >= 0] = kept[event[event >= 0]]
        assert result.steps.event.tolist() == event.tolist()
        for name in ("row", "now", "late", "windows", "hours", "ordinal", "lifetime", "outcome"):
            assert (getattr(result.steps, name) == getattr(steps, name)).all(), name
        assert set(np.flatnonzero(result.touched).tolist()) == set(row_of[kept].tolist())
        stored = [
            row if touched else before for row, touched, before in zip(expected, result.touched, stored, strict=True)
        ]
