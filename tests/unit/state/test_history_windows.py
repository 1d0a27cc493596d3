"""Windows as of every event equal plain sums over the raw events; any split of a stream gives the same rows."""

import itertools
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from state import history, rows, windows
from state.vocabulary import VOCABULARY
from tests.support.events.histories import random_events

USERS = 3
START = 1_700_000_000_000


class Stream(NamedTuple):
    row: np.ndarray  # (n,) of each event
    events: history.Events


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Events of a few users in an applied order: mostly forward, some late by up to forty days."""
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    step = draw(st.sampled_from([100_000, 3_600_000, 86_400_000]))
    time = START + np.cumsum(rng.integers(0, step, n))
    time -= (rng.random(n) < 0.2) * rng.integers(0, 40 * 86_400_000, n)
    row = rng.integers(0, USERS, n)
    return Stream(row, random_events(rng, time, rng.integers(0, 9, n)))


Step = tuple[int, bytes, bytes, int]


def run(stream: Stream, cuts: list[int]) -> tuple[list[bytes], dict[int | tuple[int, int], Step]]:
    """Rows and, for each event and each exit (row, -time), (as of, windows, hours, ordinal), cut into batches."""
    stored: list[bytes | None] = [None] * USERS
    seen: dict[int | tuple[int, int], Step] = {}
    for a, b in itertools.pairwise(cuts):
        by_row = np.argsort(stream.row[a:b], kind="stable") + a
        first_event = np.searchsorted(stream.row[by_row], np.arange(USERS + 1))
        asked = history.asked_by_events(np.zeros(USERS, bool))
        result = history.apply(rows.join(stored), stream.events, by_row, first_event, asked)
        steps, stored = result.steps, list(rows.cut(result.rows))
        for i in range(len(steps.row)):
            exit_ = (int(steps.row[i]), -int(steps.now[i]))
            found = steps.windows[i].tobytes(), steps.hours[i].tobytes(), int(steps.ordinal[i])
            seen[int(steps.event[i]) if steps.event[i] >= 0 else exit_] = (int(steps.now[i]), *found)
    return [row for row in stored if row is not None], seen


@settings(max_examples=60, deadline=None)
@given(streams(), st.lists(st.integers(0, 40), max_size=4))
def test_any_split_gives_the_same(stream: Stream, cuts: list[int]) -> None:
    n = len(stream.row)
    whole = run(stream, [0, n])
    assert run(stream, list(range(n + 1))) == whole
    assert run(stream, sorted({0, n, *(c for c in cuts if c < n)})) == whole


@settings(max_examples=60, deadline=None)
@given(streams())
def test_windows_equal_sums_over_raw_events(stream: Stream) -> None:
    events, row, n = stream.events, stream.row, len(stream.row)
    _, seen = run(stream, [0, n])
    checked = (*COUNTED, "items", "spend", "refunds")
    for i in range(n):
        now = seen[i][0]
        assert now == max(int(t) for t in events.time[: i + 1][row[: i + 1] == row[i]])
        got = np.frombuffer(seen[i][1], np.int64).reshape(4, len(VOCABULARY.measures))
        for w, (pane, length) in enumerate(windows.SPANS):
            low = (now // (pane * windows.UNIT)) * pane * windows.UNIT - length * windows.UNIT
            mine = [j for j in range(i + 1) if row[j] == row[i] and events.time[j] >= low]
            for measure in checked:
                found = got[w, VOCABULARY.column(measure)]
                assert found == sum(plain(events, j, measure) for j in mine), (i, w, measure)


@settings(max_examples=60, deadline=None)
@given(streams())
def test_exits_are_where_a_pane_leaves_a_window(stream: Stream) -> None:
    events, row, n, unit = stream.events, stream.row, len(stream.row), windows.UNIT
    _, seen = run(stream, [0, n])
    expected = {}
    for user in range(USERS):
        mine = [j for j in range(n) if row[j] == user]
        for at, j in enumerate(mine[1:], 1):
            before, now = seen[mine[at - 1]][0] // unit, seen[j][0] // unit
            for pane, length in windows.SPANS:
                for k in mine[:at]:
                    edge = (int(events.time[k]) // unit // pane + length // pane + 1) * pane
                    if before < edge <= now and edge > seen[k][0] // unit:
                        expected[user, -edge * unit] = mine[:at]
    exits = {key: step for key, step in seen.items() if isinstance(key, tuple)}
    assert set(exits) == set(expected)
    for (_, minus), step in exits.items():
        applied = expected[_, minus]
        got = np.frombuffer(step[1], np.int64).reshape(4, len(VOCABULARY.measures))
        for w, (pane, length) in enumerate(windows.SPANS):
            low = (-minus // (pane * unit)) * pane * unit - length * unit
            for measure in ("page_views", "items", "spend"):
                inside = [j for j in applied if events.time[j] >= low]
                assert got[w, VOCABULARY.column(measure)] == sum(plain(events, j, measure) for j in inside)
        assert step[2] == seen[applied[-1]][2]


COUNTED = {  # what counts the events of one type
    "page_views": "page_view",
    "product_views": "view",
    "searches": "search",
    "carts": "add_to_cart",
    "cart_removals": "remove_from_cart",
    "checkouts": "checkout",
}


def plain(events: history.Events, j: int, measure: str) -> int:
    """What one event adds, said again as a reader of the contract would."""
    kind, quantity, amount = int(events.type[j]), int(events.quantity[j]), int(events.amount[j])
    purchase, refund = (kind == VOCABULARY.code(name) for name in ("purchase", "refund"))
    if measure == "items":
        return quantity if purchase and quantity >= 0 else 0
    if measure == "spend":
        return amount if purchase else -abs(amount) if refund else 0
    if measure == "refunds":
        return int(refund or (purchase and quantity < 0))
    return int(kind == VOCABULARY.code(COUNTED[measure]))
