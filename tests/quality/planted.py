"""A seeded shop with planted kinds of shopper, its events in the order of arrival, and the truth.

    python -m tests.quality.planted OUT.jsonl --seed 1 --users 3000 --days 40 --prices 4

Some shoppers change kind, one kind appears and one vanishes, at known times; some events arrive late or twice. Every
draw is made whatever the prices, so the same seed with and without `prices` differs in prices alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.quality import kinds
from tests.quality.kinds import BOUNCER, COLUMN, GIFTER, LASTING, LIVESTREAM, NOBODY, TABLE, number

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
START = 1_722_470_400_000  # 2024-08-01, a Thursday
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
TYPES = ("page_view", "view", "search", "add_to_cart", "remove_from_cart", "checkout", "purchase", "refund")
PAGE, VIEW, SEARCH, CART, REMOVE, CHECKOUT, PURCHASE, REFUND = range(8)
SHARES = (0.11, 0.09, 0.09, 0.06, 0.08, 0.09, 0.09, 0.08, 0.06)  # of LASTING; the rest of the kinds below
BOUNCERS, VANISHING, APPEARING = 0.11, 0.07, 0.07
SWITCH = 0.08  # of all shoppers
VANISH, APPEAR, PRICES = 0.55, 0.60, 0.75  # shares of the days, when these come
LATE, TWICE = 0.04, 0.02
PRODUCTS, CATEGORIES = 2_000, 24
_SPAN = 40  # bits of a time since START


@dataclass(frozen=True, slots=True)
class Change:
    """A planted change of the set of kinds."""

    day: float
    event: str  # born, split, merged, retired
    kind: int  # that begins (born, split) or ends (merged, retired)
    other: int = NOBODY  # split: of which it was part; merged: in which it goes on


@dataclass(frozen=True, slots=True)
class Phases:
    """Who is of which kind from when: sorted by user and start, NOBODY while a user is not there."""

    user: Ints
    start: Ints  # ms
    kind: Ints


@dataclass(frozen=True, slots=True)
class Planted:
    """n events in the order of arrival, repeats included; columns of n entries. Users are numbers from 0."""

    seed: int
    users: int
    days: int
    phases: Phases
    changes: tuple[Change, ...]
    time: Ints  # ms, of the event
    arrival: Ints  # ms
    user: Ints
    type: NDArray[np.int8]  # index into TYPES
    number: Ints  # of the event; a repeat has that of the first
    session: Ints  # -1 none
    order: Ints  # -1 none
    product: Ints  # -1 none
    price: Ints  # minor units, -1 none
    quantity: Ints

    def __len__(self) -> int:
        return len(self.time)

    @property
    def end(self) -> int:
        return START + self.days * DAY

    def kind_at(self, now: int) -> Ints:
        """The kind of each user (users,) as of now (ms); NOBODY before the first phase and after the last."""
        return self.kind_of(np.arange(self.users), np.full(self.users, now))

    def kind_of(self, user: Ints, time: Ints) -> Ints:
        """The kind of each user (n,) as of each time (n,)."""
        at = self._phase(user, time)
        return np.where(at >= 0, self.phases.kind[at], NOBODY)

    def since(self, now: int) -> Ints:
        """Since when each user (users,) is what it is as of now; ms, START - 1 where there was no phase yet."""
        at = self._phase(np.arange(self.users), np.full(self.users, now))
        return np.where(at >= 0, self.phases.start[at], START - 1)

    def live(self, now: int) -> list[int]:
        """The kinds that some users are of as of now."""
        kind = self.kind_at(now)
        return np.unique(kind[kind != NOBODY]).tolist()

    def ids(self) -> list[str]:
        return ids(self.seed, self.users)

    def _phase(self, user: Ints, time: Ints) -> Ints:
        """The phase in force, -1 none."""
        key = (self.phases.user << _SPAN) + self.phases.start - START
        at = np.searchsorted(key, (user << _SPAN) + np.maximum(time - START, -1), "right") - 1
        return np.where((at >= 0) & (self.phases.user[at] == user), at, -1)


def ids(seed: int, users: int) -> list[str]:
    """Each user's id; its order says nothing about the kind."""
    return [f"u{100_000 + i}" for i in np.random.default_rng((seed, 99)).permutation(users).tolist()]


def shop(seed: int, users: int = 3_000, days: int = 40, prices: float = 1.0) -> Planted:
    """The standard shop. prices: factor on all prices from PRICES of the days on; 1.0 is its control."""
    rng = np.random.default_rng((seed, 0))
    share = np.array([*SHARES, BOUNCERS, VANISHING, APPEARING])
    kind = np.repeat([*LASTING, BOUNCER, GIFTER, LIVESTREAM], _counts(share, users))
    start = _arrivals(rng, kind, days)
    vanish, appear = VANISH * days * DAY, APPEAR * days * DAY
    new = kind == LIVESTREAM
    start[new] = (appear + rng.uniform(0, 2 * DAY, int(new.sum()))).astype(np.int64)
    gone = np.flatnonzero(kind == GIFTER)
    start[gone] = np.minimum(start[gone], int(0.3 * vanish))
    phases = [(np.arange(users), start, kind)]
    phases.append((gone, np.full(len(gone), int(vanish)), np.full(len(gone), NOBODY)))
    settled = np.flatnonzero((kind < len(LASTING)) & (start < 0.2 * days * DAY))
    movers = rng.permutation(settled)[: round(SWITCH * users)]
    when = rng.uniform(0.3 * days, 0.75 * days, len(movers)) * DAY
    to = (kind[movers] + rng.integers(1, len(LASTING), len(movers))) % len(LASTING)
    phases.append((movers, when.astype(np.int64), to))
    changes = (Change(VANISH * days, "retired", GIFTER), Change(APPEAR * days, "born", LIVESTREAM))
    return _events(seed, users, days, _sorted(phases), changes, prices, PRICES * days)


def changing(seed: int, users: int = 3_000, days: int = 46) -> Planted:
    """A shop whose set of kinds changes: splits, births, merges and retirements at known times, three days apart."""
    rng = np.random.default_rng((seed, 0))
    share = np.array([*SHARES, BOUNCERS, VANISHING, APPEARING, APPEARING])
    kind = np.repeat([*LASTING, BOUNCER, GIFTER, kinds.LISTER, kinds.GALLERY], _counts(share, users))
    start = _arrivals(rng, kind, days)
    start[kind == GIFTER] //= 2
    changes = tuple(
        Change(share * days, event, what, other)
        for share, event, what, other in (
            (0.30, "split", kinds.PLANNER, number("window")),
            (0.37, "born", kinds.LISTER, NOBODY),
            (0.44, "merged", number("abandoner"), number("bargain")),
            (0.51, "retired", number("night"), NOBODY),
            (0.58, "split", kinds.TRADER, number("loyal")),
            (0.65, "born", kinds.GALLERY, NOBODY),
            (0.72, "merged", GIFTER, number("business")),
            (0.79, "retired", number("researcher"), NOBODY),
        )
    )
    touched = {change.kind for change in changes} | {change.other for change in changes}
    phases: list[tuple[Ints, Ints, Ints]] = []
    for change in changes:
        day = int(change.day * DAY)
        if change.event == "born":
            new = kind == change.kind
            start[new] = day + rng.integers(0, 2 * DAY, int(new.sum()))
            continue
        who = np.flatnonzero(kind == (change.other if change.event == "split" else change.kind))
        start[who] = np.minimum(start[who], day // 2)
        if change.event == "split":
            who = rng.permutation(who)[: len(who) // 2]
        to = {"split": change.kind, "merged": change.other, "retired": NOBODY}[change.event]
        phases.append((who, np.full(len(who), day), np.full(len(who), to)))
    free = [one for one in LASTING if one not in touched]
    movers = np.flatnonzero(np.isin(kind, free) & (start < 0.2 * days * DAY) & (rng.random(users) < SWITCH / 2))
    to = np.array(free)[rng.integers(0, len(free), len(movers))]
    phases.append((movers, (rng.uniform(0.3 * days, 0.75 * days, len(movers)) * DAY).astype(np.int64), to))
    phases.append((np.arange(users), start, kind))
    return _events(seed, users, days, _sorted(phases), changes, 1.0, float(days))


def _counts(share: Floats, users: int) -> Ints:
    edge = np.rint(np.cumsum(share / share.sum()) * users).astype(np.int64)
    return np.diff(np.r_[0, edge])


def _arrivals(rng: np.random.Generator, kind: Ints, days: int) -> Ints:
    """First days, ms from START: most are there from the beginning, bouncers come all the time."""
    early = rng.random(len(kind)) < 0.8
    late = rng.uniform(0, 0.7 * days, len(kind)) * DAY
    start = np.where(early, 0, late).astype(np.int64)
    return np.where(kind == BOUNCER, rng.uniform(0, days, len(kind)) * DAY, start).astype(np.int64)


def _sorted(phases: list[tuple[Ints, Ints, Ints]]) -> Phases:
    user, start, kind = (np.concatenate(column) for column in zip(*phases, strict=True))
    order = np.lexsort((start, user))
    return Phases(user[order], START + start[order], kind[order])


# -- events -----------------------------------------------------------------------------------------------------

# how far shoppers lie from their kind: standard deviations, of logarithms (rates, prices) or of logits (shares)
SPREAD = {
    "visits": 0.35,
    "pages": 0.25,
    "views": 0.25,
    "searches": 0.35,
    "carts": 0.35,
    "removals": 0.35,
    "buys": 0.35,
    "doubts": 0.3,
    "price": 0.3,
    "quantity": 0.25,
    "refunds": 0.4,
}
_SHARE = ("carts", "removals", "buys", "doubts", "refunds")


def _events(
    seed: int, users: int, days: int, phases: Phases, changes: tuple[Change, ...], prices: float, price_day: float
) -> Planted:
    rng = np.random.default_rng((seed, 1))
    own = {name: rng.normal(0, sd, users) for name, sd in SPREAD.items()}
    offset = rng.normal(0, 1.0, users)  # hours that a shopper's peak lies off
    taste = rng.integers(0, CATEGORIES, users)
    visit_user, visit_time, visit_kind = _visits(rng, users, days, phases, own["visits"], offset)
    visits = len(visit_user)

    def of(name: str) -> Floats:
        mean = TABLE[visit_kind, COLUMN[name]]
        z = own[name][visit_user]
        return 1 / (1 + np.exp(-(np.log(mean / (1 - mean)) + z))) if name in _SHARE else mean * np.exp(z)

    views = rng.poisson(of("views"))
    searches = rng.poisson(of("searches"))
    pages = rng.poisson(of("pages"))
    pages = np.where(pages + views + searches == 0, 1, pages)  # a visit has an event
    carts = rng.binomial(views, of("carts"))
    removals = rng.binomial(carts, of("removals"))
    lines = carts - removals
    buys = (rng.random(visits) < of("buys")) & (lines > 0)
    checkouts = (buys | (rng.random(visits) < of("doubts"))) & (lines > 0)
    lines = np.where(buys, lines, 0)
    columns = []
    spans = (
        (PAGE, pages, 0.0, 1.0),
        (VIEW, views, 0.0, 1.0),
        (SEARCH, searches, 0.0, 0.8),
        (CART, carts, 0.2, 1.0),
        (REMOVE, removals, 1.0, 1.1),
        (CHECKOUT, checkouts.astype(np.int64), 1.1, 1.2),
        (PURCHASE, lines, 1.3, 1.3),
    )
    for kind, count, low, high in spans:
        visit = np.repeat(np.arange(visits), count)
        columns.append((visit, np.full(len(visit), kind, np.int8), rng.uniform(low, high, len(visit))))
    visit, kind, place = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((place, visit))
    visit, kind = visit[order], kind[order]
    time = visit_time[visit] + _gaps(rng, visit, kind)

    quantity = np.ones(len(visit), np.int64)
    price = np.full(len(visit), -1)
    product = np.full(len(visit), -1)
    priced = np.flatnonzero(np.isin(kind, (VIEW, CART, REMOVE, PURCHASE)))
    price[priced] = _minor(of("price")[visit[priced]] * np.exp(rng.normal(0, 0.5, len(priced))))
    favoured = rng.random(len(priced)) < 0.5
    category = np.where(favoured, taste[visit_user[visit[priced]]], rng.integers(0, CATEGORIES, len(priced)))
    product[priced] = category + CATEGORIES * rng.integers(0, PRODUCTS // CATEGORIES, len(priced))
    piled = np.flatnonzero(np.isin(kind, (CART, PURCHASE)))
    quantity[piled] = 1 + rng.poisson(np.maximum(of("quantity")[visit[piled]] - 0.95, 0.0))
    bought = np.flatnonzero(kind == PURCHASE)
    back = bought[rng.random(len(bought)) < of("refunds")[visit[bought]]]
    sent_back = time[back] + (rng.uniform(1, 6, len(back)) * DAY).astype(np.int64)

    made = Planted(
        seed,
        users,
        days,
        phases,
        changes,
        np.r_[time, sent_back],
        np.r_[time, sent_back],
        np.r_[visit_user[visit], visit_user[visit[back]]],
        np.r_[kind, np.full(len(back), REFUND, np.int8)],
        np.arange(len(time) + len(back)),
        np.r_[visit, np.full(len(back), -1)],
        np.r_[np.where(kind == PURCHASE, visit, -1), visit[back]],
        np.r_[product, product[back]],
        np.r_[price, price[back]],
        np.r_[quantity, quantity[back]],
    )
    later = np.r_[time, time[back]] >= START + price_day * DAY  # what comes back is paid back at its price
    price = np.where(later & (made.price >= 0), np.rint(made.price * prices).astype(np.int64), made.price)
    return _delivered(rng, replace(made, price=price))


def _visits(
    rng: np.random.Generator, users: int, days: int, phases: Phases, own: Floats, offset: Floats
) -> tuple[Ints, Ints, Ints]:
    """User, time (ms) and kind of each visit, by time. A visit belongs to the kind that its user is of just then."""
    here = np.flatnonzero(phases.kind >= 0)
    last = np.r_[phases.user[1:] != phases.user[:-1], True]
    end = np.where(last, START + days * DAY, np.r_[phases.start[1:], 0])
    who, what, begin, end = phases.user[here], phases.kind[here], phases.start[here], end[here]
    day = np.arange(days)
    weekend = np.isin((day + 3) % 7, (5, 6))  # START is a Thursday
    rate = np.where(weekend, TABLE[what, COLUMN["weekend"]][:, None], 1.0)
    rate = rate * (TABLE[what, COLUMN["visits"]] * np.exp(own[who]))[:, None]
    count = rng.poisson(rate)
    phase = np.repeat(np.arange(len(who)), count.sum(1))
    on = np.repeat(np.tile(day, len(who)), count.ravel())
    usual = TABLE[what, COLUMN["hour"]][phase] + offset[who[phase]]
    hour = usual + rng.normal(0, 1, len(phase)) * TABLE[what, COLUMN["hours"]][phase]
    anyhow = rng.random(len(phase)) < 0.1  # now and then at any time of the day
    hour = np.where(anyhow, rng.uniform(7, 23, len(phase)), hour) % 24
    time = START + on * DAY + (hour * HOUR).astype(np.int64)
    inside = (time >= begin[phase]) & (time < end[phase])
    once = np.flatnonzero(what == BOUNCER)
    user = np.r_[who[phase[inside]], who[once]]
    kind = np.r_[what[phase[inside]], what[once]]
    time = np.r_[time[inside], begin[once]]
    order = np.argsort(time, kind="stable")
    return user[order], time[order], kind[order]


def _gaps(rng: np.random.Generator, visit: Ints, kind: NDArray[np.int8]) -> Ints:
    """Time (ms) of each event since its visit began; the lines of an order come at once. visit ascending."""
    gap = np.minimum(rng.lognormal(9.9, 1.0, len(visit)), 20 * MINUTE)  # median 20 s
    first = np.r_[True, visit[1:] != visit[:-1]]
    together = np.r_[False, (kind[1:] == PURCHASE) & (kind[:-1] == PURCHASE)] & ~first
    gap[together] = 1.0
    gap[first] = 0.0
    total = np.cumsum(gap)
    return (total - np.maximum.accumulate(np.where(first, total, 0.0))).astype(np.int64)


def _minor(price: Floats) -> Ints:
    return np.maximum(np.rint(price * 100), 1).astype(np.int64)


def _delivered(rng: np.random.Generator, made: Planted) -> Planted:
    """In the order of arrival: some late by minutes, some by hours; some twice. Nothing after the end."""
    n = len(made)
    late = rng.random(n) < LATE
    delay = np.where(rng.random(n) < 0.7, rng.exponential(5 * MINUTE, n), rng.exponential(3 * HOUR, n))
    arrival = made.time + np.where(late, delay, 0.0).astype(np.int64)
    again = np.flatnonzero(rng.random(n) < TWICE)
    at = np.r_[np.arange(n), again]
    arrival = np.r_[arrival, arrival[again] + rng.exponential(10_000, len(again)).astype(np.int64) + 1]
    order = np.argsort(arrival, kind="stable")
    order = order[arrival[order] < made.end]
    at, arrival = at[order], arrival[order]
    columns = ("time", "user", "type", "number", "session", "order", "product", "price", "quantity")
    return replace(made, arrival=arrival, **{name: getattr(made, name)[at] for name in columns})


# -- records ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Records:
    """Encoded events: keys, JSON values, record times (ms, of arrival), whether each goes to `purchases`."""

    keys: list[bytes]
    values: list[bytes]
    times: list[int]
    bought: list[bool]


def records(planted: Planted, start: int = 0, stop: int | None = None) -> Records:
    """The events from start to stop in shoal's own schema."""
    at = slice(start, stop)
    ids = planted.ids()
    users = planted.user[at].tolist()
    kind = planted.type[at]
    bought = (kind == PURCHASE) | (kind == REFUND)
    values = [
        (
            f'{{"event_time":{time},"event_type":"{TYPES[what]}","user_id":"{ids[user]}","event_id":"e{number}"'
            + (f',"session_id":"s{session}"' if session >= 0 else "")
            + (f',"transaction_id":"t{order}"' if order >= 0 else "")
            + (f',"product_id":"p{product}","category":"c{product % CATEGORIES}"' if product >= 0 else "")
            + (f',"price":{price / 100},"quantity":{quantity}' if price >= 0 else "")
            + "}"
        ).encode()
        for time, what, user, number, session, order, product, price, quantity in zip(
            planted.time[at].tolist(),
            kind.tolist(),
            users,
            planted.number[at].tolist(),
            planted.session[at].tolist(),
            planted.order[at].tolist(),
            planted.product[at].tolist(),
            planted.price[at].tolist(),
            planted.quantity[at].tolist(),
            strict=True,
        )
    ]
    keys = [one.encode() for one in ids]
    return Records([keys[user] for user in users], values, planted.arrival[at].tolist(), bought.tolist())


def chunks(planted: Planted, size: int = 50_000) -> Iterator[Records]:
    for start in range(0, len(planted), size):
        yield records(planted, start, start + size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the events of a planted shop, and its truth beside them.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--prices", type=float, default=1.0)
    chosen = parser.parse_args()
    made = shop(chosen.seed, chosen.users, chosen.days, chosen.prices)
    with chosen.out.open("wb") as out:
        for part in chunks(made):
            out.writelines(value + b"\n" for value in part.values)
    names = made.ids()
    with chosen.out.with_suffix(".truth.csv").open("w", encoding="utf-8") as truth:
        truth.write("user_id,from_ms,kind\n")
        for user, since, kind in zip(
            *(column.tolist() for column in (made.phases.user, made.phases.start, made.phases.kind)), strict=True
        ):
            truth.write(f"{names[user]},{since},{kinds.NAMES[kind] if kind >= 0 else ''}\n")
