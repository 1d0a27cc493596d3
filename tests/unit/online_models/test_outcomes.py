"""What came of each row, against a plain loop over the log."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online_models.outcomes import HORIZON, outcomes
from online_models.training_rows import FIRST_DAY_ROW, OUTCOME_ROW, SAMPLE_ROW, USER, TrainingRows

H = 10  # the horizon of the loop's logs


def log(*records: tuple[int, int, int, int, int, int]) -> TrainingRows:
    """Records (user, now, kind, sessions, carts, orders), in log order."""
    columns = np.array(records, np.int64).reshape(-1, 6)
    user, now, kind, sessions, carts, orders = columns.T
    names = np.array([int(one).to_bytes(16, "big") for one in user], "S16").astype(USER)
    return TrainingRows(
        offset=np.arange(len(columns)),
        now=now,
        kind=kind.astype(np.int8),
        user=names,
        born=np.zeros_like(now),
        carts=carts,
        orders=orders,
        sessions=sessions,
        raw=np.zeros((len(columns), 0)),
    )


def plain(records: list[tuple[int, int, int, int, int, int]]) -> list[tuple[int, bool, bool, bool, bool]]:
    """(index, bought, carted, returned, ripe) of each ROW, by looking at all later records one by one."""
    top = max((now for _, now, *_ in records), default=0)
    found = []
    for i, (user, now, kind, sessions, carts, orders) in enumerate(records):
        if kind != SAMPLE_ROW:
            continue
        bought = carted = returned = False
        before = carts  # into the session's end
        was = (now, sessions, carts, orders)
        for other, then, _, s, c, o in records[i + 1 :]:
            if other != user:
                continue
            if any(new < old for new, old in zip((then, s, c, o), was, strict=True)):
                break  # erased, and back
            was = (then, s, c, o)
            if then > now + H:
                break
            bought |= o > orders
            returned |= s > sessions
            if s == sessions:
                before = c
            carted |= s == sessions + 1 and c > before
        found.append((i, bought, carted, returned, now + H < top))
    return found


@st.composite
def logs(draw: st.DrawFn) -> list[tuple[int, int, int, int, int, int]]:
    """Some users' records; clocks run apart, totals grow, now and then somebody is erased and comes back."""
    count = draw(st.integers(0, 40))
    state = {user: [0, 1, 0, 0] for user in range(4)}
    records = []
    for _ in range(count):
        user = draw(st.integers(0, 3))
        mine = state[user]
        if draw(st.integers(0, 19)) == 0:
            mine[1:] = [1, 0, 0]
        mine[0] += draw(st.sampled_from([0, 1, 3, 9, 12]))
        for i in (1, 2, 3):
            mine[i] += draw(st.sampled_from([0, 0, 0, 1, 2]))
        records.append(
            (user, mine[0], draw(st.sampled_from([SAMPLE_ROW, SAMPLE_ROW, OUTCOME_ROW, FIRST_DAY_ROW])), *mine[1:])
        )
    return records


@given(logs())
def test_equals_a_plain_loop(records: list[tuple[int, int, int, int, int, int]]) -> None:
    came = outcomes(log(*records), H)
    columns = (came.at, came.bought, came.carted, came.returned, came.ripe)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == plain(records)


@given(logs(), st.integers(0, 40))
def test_what_is_ripe_is_final(records: list[tuple[int, int, int, int, int, int]], cut: int) -> None:
    """A longer log says the same of what was ripe, where its time does not go back."""
    records = sorted(records, key=lambda record: record[1])
    early, late = outcomes(log(*records[:cut]), H), outcomes(log(*records), H)
    ripe = np.flatnonzero(early.ripe)
    assert late.ripe[ripe].all()
    for name in ("bought", "carted", "returned"):
        assert (getattr(early, name)[ripe] == getattr(late, name)[ripe]).all()


def test_a_purchase_counts_to_the_last_millisecond_of_the_seventh_day() -> None:
    for after, expected in ((HORIZON, True), (HORIZON + 1, False)):
        came = outcomes(
            log(
                (1, 5, SAMPLE_ROW, 1, 0, 0), (1, 5 + after, OUTCOME_ROW, 2, 0, 1), (2, HORIZON * 3, SAMPLE_ROW, 1, 0, 0)
            )
        )
        assert came.bought.tolist() == [expected, False]
        assert came.ripe.tolist() == [True, False]


def test_a_cart_of_the_same_session_or_the_one_after_the_next_is_none_of_the_next() -> None:
    row, later = (1, 0, SAMPLE_ROW, 3, 2, 0), (2, 99, SAMPLE_ROW, 1, 0, 0)
    same = outcomes(log(row, (1, 1, OUTCOME_ROW, 3, 3, 0), (1, 2, SAMPLE_ROW, 4, 3, 0), later), H)
    assert (same.carted[0], same.returned[0]) == (False, True)
    assert outcomes(log(row, (1, 1, OUTCOME_ROW, 4, 3, 0), later), H).carted[0]
    assert not outcomes(log(row, (1, 1, SAMPLE_ROW, 4, 2, 0), (1, 2, OUTCOME_ROW, 5, 3, 0), later), H).carted[0]
    assert not outcomes(log(row, later), H).returned[0]


def test_no_rows() -> None:
    assert len(outcomes(log()).at) == 0
