"""What every user's history should be: windows by SQL as of every step, segments by a few lines of numpy.

Nothing of shoal's code takes part but what reads the bytes of a model version. Whether an exit is decided by the
user's next event or by a sweep makes no difference, so the journal need not tell: it falls before the first event that
is judged at its edge or later, and after each swap with an earlier mark.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from online_models.version import Version
from tests.faults.evidence import Move
from tests.faults.order import UNIT, Applied, Erased, Event

Ints = NDArray[np.int64]
HOUR, DAY = 12, 288  # in units
WINDOWS = {"1h": (1, 12), "24h": (HOUR, DAY), "7d": (HOUR, 7 * DAY), "30d": (DAY, 30 * DAY)}  # pane, length
TYPES = ("page_view", "view", "search", "add_to_cart", "remove_from_cart", "checkout")
MEASURES = (*TYPES, "orders", "items", "spend", "sessions", "refunds")
CHUNK = 250_000  # steps at a time
GAP = 30 * 60_000  # ms
WEEK = 7 * 24 * 3_600_000
EVENT, EXIT, SWAP, END = range(4)  # kinds of steps; those as of one time come in this order


@dataclass(slots=True)
class History:
    """Of all users; one who was erased and comes back is another. Events are sorted by user and the applied order,
    repeats left out; their columns have n entries."""

    users: list[str]
    birth: list[int]  # of each user: the number among the partition's records of the first event
    part: Ints  # (u,)
    gone: dict[int, Erased]  # users who were erased
    user: Ints  # (n,)
    number: Ints  # of the user's events, from 1
    at: Ints  # position in the partition
    time: Ints
    tau: Ints
    hours: Ints  # (n, 8), after the event
    idents: list[list[str]]  # (u,) the last event ids, newest first
    con: duckdb.DuckDBPyConnection  # table element: a line an event, with its measures

    def living(self) -> dict[str, int]:
        """Users who were not erased, by name."""
        return {name: i for i, name in enumerate(self.users) if i not in self.gone}


@dataclass(slots=True)
class _User:
    place: int
    name: str
    part: int
    birth: int
    idents: list[str]
    sessions: list[str]
    orders: list[str]
    hours: list[int]
    epoch: int = 0
    last: int | None = None  # largest event time
    tau: int = -1
    number: int = 0


def _sees(memory: list[str], ident: str, room: int) -> bool:
    """Whether an id is new to a memory of so many; puts it in front."""
    if ident in memory:
        return False
    memory.insert(0, ident)
    del memory[room:]
    return True


def history(parts: Mapping[int, Applied]) -> History:
    """Fold the applied order of each partition: which events count, as of when, and what they are the first of."""
    everyone: list[_User] = []
    gone: dict[int, Erased] = {}
    lines: list[tuple[Any, ...]] = []
    hours: list[list[int]] = []
    for part, applied in parts.items():
        states: dict[str, _User] = {}
        for step in sorted([*applied.events, *applied.erased], key=lambda one: one.at):
            if isinstance(step, Erased):
                if ended := states.pop(step.user, None):
                    gone[ended.place] = step
                continue
            at, ordinal, watermark, event = step
            state = states.get(event.user)
            if state is None:
                state = _User(len(everyone), event.user, part, ordinal, [], [], [], [0] * 8)
                states[event.user] = state
                everyone.append(state)
            if event.ident is not None and not _sees(state.idents, event.ident, 16):
                continue
            state.tau = max(state.tau, event.time, watermark)
            state.number += 1
            new_session, new_order = _firsts(state, event)
            week = state.tau // WEEK
            if week != state.epoch:
                state.hours = [count >> min(week - state.epoch, 16) for count in state.hours]
                state.epoch = week
            block = event.time // 10_800_000 % 8
            state.hours[block] = min(state.hours[block] + 1, 65_535)
            state.last = event.time if state.last is None else max(state.last, event.time)
            hours.append(state.hours.copy())
            lines.append((state.place, state.number, at, event.time, state.tau, event.type, event.price,
                          event.quantity, new_session, new_order))  # fmt: skip
    names = ("u", "n", "at", "t", "tau", "type", "price", "quantity", "new_session", "new_order")
    kinds = (*[pa.int64()] * 5, pa.string(), pa.float64(), *[pa.int64()] * 3)
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(names)
    raw = pa.table([pa.array(c, kind) for c, kind in zip(columns, kinds, strict=True)], list(names))
    con = duckdb.connect()
    con.execute("set threads = 2")
    con.execute("set memory_limit = '3GB'")
    con.register("raw", raw)
    counted = ", ".join(f"(type = '{kind}')::bigint as {kind}" for kind in TYPES)
    con.execute(f"""
        create table element as
        with line as (select *, round_even(price * 100, 0)::bigint * quantity as cents,
                             type = 'purchase' and quantity >= 0 as buys from raw)
        select u, n, t // {UNIT} as start, {counted}, new_order as orders,
               case when buys then quantity else 0 end as items,
               case when type = 'purchase' then cents when type = 'refund' then -abs(cents) else 0 end as spend,
               new_session as sessions, (type = 'refund' or type = 'purchase' and not buys)::bigint as refunds
        from line""")
    table = np.array([raw.column(i).to_numpy() for i in range(5)], np.int64)
    order = np.lexsort((table[1], table[0]))
    user, number, at, time, tau = table[:, order]
    return History(
        [one.name for one in everyone], [one.birth for one in everyone],
        np.array([one.part for one in everyone], np.int64), gone, user, number, at, time, tau,
        np.array(hours, np.int64).reshape(-1, 8)[order], [one.idents for one in everyone], con,
    )  # fmt: skip


def _firsts(state: _User, event: Event) -> tuple[int, int]:
    if event.session is not None:
        session = _sees(state.sessions, event.session, 8)
    else:
        session = state.last is None or event.time > state.last + GAP
    order = False
    if event.type == "purchase" and event.quantity >= 0:
        named = f"t{event.order}" if event.order is not None else f"s{event.session}" if event.session else None
        order = True if named is None else _sees(state.orders, named, 8)
    return int(session), int(order)


def sums(found: History, user: Ints, number: Ints, now: Ints) -> Ints:
    """The windowed measures (s, 4, measures) of users as of now (units), with their first `number` events applied."""
    con = found.con
    con.register("given", pa.table({"id": np.arange(len(user)), "u": user, "n": number, "now": now}))
    cells = ", ".join(
        f"coalesce(sum({name}) filter (start >= now // {pane} * {pane} - {length}), 0)::bigint"
        for pane, length in WINDOWS.values()
        for name in MEASURES
    )
    got = con.execute(f"""
        select id, {cells}
        from given g join element e on e.u = g.u and e.n <= g.n and e.start >= now // {DAY} * {DAY} - {30 * DAY}
        group by id""").fetchnumpy()
    out = np.zeros((len(user), len(WINDOWS), len(MEASURES)), np.int64)
    where, *columns = got.values()
    for i, column in enumerate(columns):
        out[where, i // len(MEASURES), i % len(MEASURES)] = column
    return out


@dataclass(slots=True)
class Steps:
    """In the order in which they are decided, user by user."""

    user: Ints
    number: Ints  # events applied before or with it
    now: Ints  # ms
    kind: Ints
    version: Ints  # under which it is judged, 0 none
    late: NDArray[np.bool_]


def steps(found: History, parts: Mapping[int, Applied]) -> Steps:
    """Events, exits and swaps of all users."""
    n = len(found.user)
    swaps = {part: applied.swaps for part, applied in parts.items()}
    of_event = found.part[found.user]
    version = np.zeros(n, np.int64)
    for part, taken in swaps.items():
        for swap in taken:
            version[(of_event == part) & (found.at >= swap.at)] = swap.version
    late = found.time // UNIT < found.tau // UNIT
    first = np.searchsorted(found.user, np.arange(len(found.users)))
    blocks = [Steps(found.user, found.number, found.tau, np.full(n, EVENT), version, late), _exits(found, parts)]
    lift = max(int(found.at.max(initial=0)), max((s.at for t in swaps.values() for s in t), default=0)) + 1
    position = found.user * lift + found.at
    until = np.full(len(found.users), np.iinfo(np.int64).max)  # place in the sequence at which a user is erased
    for user, erased in found.gone.items():
        until[user] = erased.at
    blocks.append(_ends(found, parts))
    for part, taken in swaps.items():
        for swap in taken:
            born = np.flatnonzero((found.part == part) & (found.at[first] < swap.at) & (swap.at < until))
            last = np.searchsorted(position, born * lift + swap.at) - 1
            now = np.maximum(found.tau[last], swap.mark)
            blocks.append(_block(born, found.number[last], now, SWAP, np.full(len(born), swap.version)))
    whole = Steps(*(np.concatenate([getattr(block, name) for block in blocks]) for name in Steps.__slots__))
    # stable: swaps as of the same time stay in their order
    order = np.lexsort((whole.kind, whole.now, whole.number, whole.user))
    return Steps(*(getattr(whole, name)[order] for name in Steps.__slots__))


def _last(found: History) -> Ints:
    """The index of each user's last event."""
    return np.searchsorted(found.user, np.arange(len(found.users)), "right") - 1


def _end(found: History, parts: Mapping[int, Applied]) -> Ints:
    """As of when each user ends (ms), -1 where never: no step goes back, so it is not before the last one."""
    out, last = np.full(len(found.users), -1), _last(found)
    for user, erased in found.gone.items():
        mark = max((s.mark for s in parts[int(found.part[user])].swaps if s.at < erased.at), default=0)
        out[user] = max(int(found.tau[last[user]]), mark, erased.watermark)
    return out


def _ends(found: History, parts: Mapping[int, Applied]) -> Steps:
    user = np.array(sorted(found.gone), np.int64)
    version = [
        max((s.version for s in parts[int(found.part[u])].swaps if s.at < found.gone[u].at), default=0)
        for u in user.tolist()
    ]
    return _block(user, found.number[_last(found)[user]], _end(found, parts)[user], END, np.array(version, np.int64))


def _block(user: Ints, number: Ints, now: Ints, kind: int, version: Ints) -> Steps:
    return Steps(user, number, now, np.full(len(user), kind), version, np.zeros(len(user), bool))


def _exits(found: History, parts: Mapping[int, Applied]) -> Steps:
    """An event leaves a window at an edge; edges of one user that fall together are one."""
    start, tau, n = found.time // UNIT, found.tau // UNIT, len(found.user)
    edge = np.concatenate([(start // pane + length // pane + 1) * pane for pane, length in WINDOWS.values()])
    user = np.tile(found.user, len(WINDOWS))
    ahead = edge > np.tile(tau, len(WINDOWS))
    lift = int(max(edge.max(initial=0), tau.max(initial=0))) + 1
    user, edge = np.divmod(np.unique(user[ahead] * lift + edge[ahead]), lift)
    upto = np.searchsorted(found.user * lift + tau, user * lift + edge)  # the user's first event not before it
    more = upto < n
    more[more] = found.user[upto[more]] == user[more]
    swept = np.array([parts[part].swept for part in found.part.tolist()], np.int64)
    end = _end(found, parts)
    decided = more | (edge * UNIT <= np.where(end >= 0, end, swept)[user])
    user, edge, upto, more = user[decided], edge[decided], upto[decided], more[decided]
    by = np.full(len(found.users), np.iinfo(np.int64).max)
    for gone, erased in found.gone.items():
        by[gone] = erased.at
    by = np.where(more, found.at[np.minimum(upto, n - 1)], by[user])  # place in the sequence of what decides it
    version = np.zeros(len(user), np.int64)
    for part, applied in parts.items():
        mine = found.part[user] == part
        for swap in applied.swaps:
            version[mine & (by >= swap.at) & (edge * UNIT > swap.mark)] = swap.version
    return _block(user, found.number[upto - 1], edge * UNIT, EXIT, version)


def segments(found: History, all_steps: Steps, versions: Mapping[int, Version]) -> tuple[Ints, Ints]:
    """Of each step under its version: the segment of the nearest centre, -1 where it has none; and, as bits by the
    centres' order, those near enough for a user to stay."""
    out, near = np.full(len(all_steps.user), -1), np.zeros(len(all_steps.user), np.int64)
    whole = np.flatnonzero((all_steps.version > 0) & (all_steps.kind != END))
    for judged in np.array_split(whole, len(whole) // CHUNK + 1):
        user, number = all_steps.user[judged], all_steps.number[judged]
        first = np.searchsorted(found.user, user)
        windows = sums(found, user, number, all_steps.now[judged] // UNIT)
        raw = features(windows, found.hours[first + number - 1])
        for one in np.unique(all_steps.version[judged]).tolist():
            mine, version = all_steps.version[judged] == one, versions[one]
            distance = distances(version, raw[mine])
            out[judged[mine]] = np.array(version.ids)[distance.argmin(1)]
            enough = distance * (1 - version.hysteresis) ** 2 <= distance.min(1)[:, None]
            near[judged[mine]] = enough @ (1 << np.arange(len(version.ids)))
    return out, near


def features(windows: Ints, hours: Ints) -> NDArray[np.float64]:
    """What the scaler takes: 13 numerators, 13 denominators, 5 plain columns.

    windows (s, 4, measures), hours (s, 8).
    """
    lately = {name: windows[:, 2, i] + windows[:, 3, i] / 8 for i, name in enumerate(MEASURES)}
    pages = lately["page_view"] + lately["view"]
    quarters = [(hours[:, 2 * i] + hours[:, 2 * i + 1]).astype(float) for i in range(4)]
    total = hours.sum(1).astype(float)
    above = [lately["view"], lately["add_to_cart"], lately["orders"], lately["orders"], lately["remove_from_cart"],
             lately["search"], pages, lately["spend"], lately["refunds"], *quarters]  # fmt: skip
    below = [pages, lately["view"], lately["add_to_cart"], lately["view"], lately["add_to_cart"], pages,
             lately["sessions"], lately["orders"], lately["orders"], *[total] * 4]  # fmt: skip
    week, month = windows[:, 2], windows[:, 3]
    plain = [week[:, 0] + week[:, 1], week[:, 3], month[:, 6], month[:, 8], month[:, 9]]
    return np.stack([np.maximum(one, 0.0) for one in above] + below + [np.log1p(np.maximum(p, 0.0)) for p in plain], 1)


def distances(version: Version, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shrink, scale, clip, round to the grid; squared distances (s, k)."""
    scaler, ratios = version.scaler, len(version.scaler.prior)
    prior, strength = np.array(scaler.prior), np.array(scaler.strength)
    shrunk = np.log1p((raw[:, :ratios] + prior * strength) / (raw[:, ratios : 2 * ratios] + strength))
    scaled = (np.hstack((shrunk, raw[:, 2 * ratios :])) - scaler.median) / scaler.spread
    grid = np.rint(np.clip(scaled, -2.0, 2.0) * 65_536) / 65_536
    distance = np.zeros((len(raw), len(version.centres)))
    for i in range(grid.shape[1]):  # in the columns' order, as a sum of floats depends on it
        distance += (grid[:, i, None] - version.centres[None, :, i]) ** 2
    return distance


def moves(found: History, all_steps: Steps, segment: Ints, near: Ints, versions: Mapping[int, Version]) -> list[Move]:
    """Every change of segment: a user stays while the own centre is near enough."""
    place = {number: {ident: 1 << i for i, ident in enumerate(one.ids)} for number, one in versions.items()}
    out: list[Move] = []
    seqs: dict[int, int] = defaultdict(int)
    stands: dict[int, int] = {}
    causes = {EXIT: "expiry", SWAP: "model", END: "erased"}
    columns = (all_steps.user, all_steps.now, all_steps.kind, all_steps.version, all_steps.late, segment, near)
    chunks = (zip(*(c[a : a + CHUNK].tolist() for c in columns), strict=True) for a in range(0, len(segment), CHUNK))
    for user, now, kind, version, late, nearest, enough in chain.from_iterable(chunks):
        frm = stands.get(user)
        stays = frm is not None and kind != END and version and enough & place[version].get(frm, 0)
        to = frm if stays else nearest
        if version == 0 or to == frm or (kind == END and frm is None):
            continue
        stands[user] = to
        seqs[user] += 1
        cause = "first" if frm is None else causes.get(kind, "late" if late else "behaviour")
        name, goes_to = found.users[user], None if kind == END else to
        moved = Move(ident(name, found.birth[user], seqs[user]), name, seqs[user], frm, goes_to, cause, now, version)
        out.append(moved)
    return out


def ident(user: str, birth: int, seq: int) -> str:
    """The id of a change's event."""
    parts = (user.encode(), str(birth).encode(), str(seq).encode(), b"segment-change")
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).hexdigest()


def expected(parts: Mapping[int, Applied], versions: Mapping[int, Version]) -> tuple[History, Sequence[Move]]:
    """All there is to compare with."""
    found = history(parts)
    all_steps = steps(found, parts)
    return found, moves(found, all_steps, *segments(found, all_steps, versions), versions)
