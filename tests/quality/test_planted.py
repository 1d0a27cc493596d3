"""The planted shop: what it plants is there, and nothing else changes."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from tests.quality import kinds, planted, played
from tests.quality.kinds import BOUNCER, GIFTER, LIVESTREAM, NOBODY
from tests.quality.planted import DAY, HOUR, PRICES, PURCHASE, REFUND, START, Planted

SIZE = {"users": 400, "days": 20}


@pytest.fixture(scope="module")
def shop() -> Planted:
    return planted.shop(5, **SIZE)


def columns(made: Planted) -> dict[str, np.ndarray]:
    found = {one.name: getattr(made, one.name) for one in fields(made)}
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}


def test_a_seed_is_a_stream(shop: Planted) -> None:
    again, other = planted.shop(5, **SIZE), planted.shop(6, **SIZE)
    assert all((columns(again)[name] == value).all() for name, value in columns(shop).items())
    assert planted.records(again, 0, 500) == planted.records(shop, 0, 500)
    assert len(other) != len(shop)


def test_events_are_those_of_the_kind_that_the_user_is_of(shop: Planted) -> None:
    visit = np.flatnonzero(shop.session >= 0)
    began = np.full(int(shop.session.max()) + 1, 1 << 62)
    np.minimum.at(began, shop.session[visit], shop.time[visit])
    kind = shop.kind_of(shop.user[visit], began[shop.session[visit]])
    assert (kind != NOBODY).all()
    hour = (shop.time[visit] // HOUR) % 24
    at_night = (hour < 6) | (hour >= 22)
    of = {name: at_night[kind == kinds.number(name)].mean() for name in ("night", "loyal", "business")}
    assert of["night"] > 0.8
    assert max(of["loyal"], of["business"]) < 0.2
    searches = shop.type[visit] == planted.SEARCH
    assert searches[kind == kinds.number("researcher")].mean() > 3 * searches[kind == kinds.number("abandoner")].mean()
    bounced = np.unique(shop.session[visit[kind == BOUNCER]])
    assert len(bounced) == len(np.unique(shop.user[visit[kind == BOUNCER]]))  # one visit each


def test_kinds_come_go_and_are_left_at_the_times_that_are_said(shop: Planted) -> None:
    vanish, appear = (START + int(change.day * DAY) for change in shop.changes)
    assert GIFTER in shop.live(vanish - 1)
    assert GIFTER not in shop.live(vanish)
    assert LIVESTREAM not in shop.live(appear - 1)
    assert LIVESTREAM in shop.live(appear + 2 * DAY)
    early, late = shop.kind_at(START + 5 * DAY), shop.kind_at(shop.end)
    moved = (early >= 0) & (early < len(kinds.LASTING)) & (early != late)
    assert moved.sum() == pytest.approx(planted.SWITCH * shop.users, abs=1)
    assert (shop.since(shop.end)[moved] > START + 5 * DAY).all()


def test_prices_change_prices_and_nothing_else(shop: Planted) -> None:
    dear = planted.shop(5, prices=4.0, **SIZE)
    for name, value in columns(shop).items():
        if name != "price":
            assert (columns(dear)[name] == value).all(), name
    later = shop.time >= START + PRICES * shop.days * DAY
    priced = (shop.price >= 0) & (shop.type != REFUND)
    assert (dear.price[priced & later] == 4 * shop.price[priced & later]).all()
    assert (dear.price[~later] == shop.price[~later]).all()
    assert (dear.price[shop.price < 0] < 0).all()
    bought, back = dear.type == PURCHASE, dear.type == REFUND
    paid = dict(zip(dear.order[bought].tolist(), dear.price[bought].tolist(), strict=True))
    alone = np.bincount(dear.order[bought], minlength=int(dear.order.max()) + 1) == 1
    one_line = back & alone[dear.order]
    assert one_line.sum() > 5
    assert all(paid[order] == price for order, price in zip(
        dear.order[one_line].tolist(), dear.price[one_line].tolist(), strict=True))  # fmt: skip


def test_some_come_late_and_some_twice(shop: Planted) -> None:
    assert (np.diff(shop.arrival) >= 0).all()
    assert (shop.arrival >= shop.time).all()
    number, first, count = np.unique(shop.number, return_index=True, return_counts=True)
    assert (count - 1).sum() / len(number) == pytest.approx(planted.TWICE, rel=0.2)
    late = shop.arrival[first] > shop.time[first]
    assert late.mean() == pytest.approx(planted.LATE, rel=0.2)
    assert (shop.arrival - shop.time).max() > 6 * HOUR
    twice = np.isin(shop.number, number[count > 1])
    order = np.argsort(shop.number[twice], kind="stable")
    for name in ("time", "user", "type", "price"):
        pair = columns(shop)[name][twice][order].reshape(-1, 2)
        assert (pair[:, 0] == pair[:, 1]).all(), name


def test_a_changing_shop_changes_as_it_says() -> None:
    made = planted.changing(3, users=600, days=30)
    events = [change.event for change in made.changes]
    assert sorted(events) == sorted(["split", "born", "merged", "retired"] * 2)
    for change in made.changes:
        before, after = (made.kind_at(START + int((change.day + days) * DAY)) for days in (-0.1, 2.1))
        was, now = (before == change.kind).sum(), (after == change.kind).sum()
        if change.event in ("born", "split"):
            assert was == 0 < now
        else:
            assert now == 0 < was
        if change.event == "split":
            assert set(before[after == change.kind].tolist()) == {change.other}
            assert (after == change.other).sum() > 0.3 * (before == change.other).sum()
        if change.event == "merged":
            assert set(after[before == change.kind].tolist()) == {change.other}


def test_the_core_takes_it_and_tells_whom_its_rows_are_of() -> None:
    made = planted.shop(2, users=60, days=9)
    core = played.Core(made)
    core.feed(made.end)
    (task,) = core.tasks
    assert not [name for name in task.counts if name.startswith("reject:")]
    kept = np.unique(made.number)
    assert task.counts["repeated"] == len(made) - len(kept)
    found = core.flush()
    rows = played.taught(made, found.keys, found.values, 0, core.settings)
    assert len(rows) == len(found.keys) > 100
    assert (rows.truth == made.kind_of(rows.user, rows.rows.now)).all()
    user, stored = core.rows()
    raw, last = played.raw_and_last(stored, made.end)
    assert raw.shape == (len(user), rows.rows.raw.shape[1])
    latest = np.zeros(made.users, np.int64)
    np.maximum.at(latest, made.user, made.time)
    assert (last == latest[user]).all()
