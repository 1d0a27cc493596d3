"""Seeded traffic in shoal's schema, and the topics filled with it.

*Bursty* is shaped like a real shop: visits of many shoppers interleaved. Lengths of visits, gaps within one and
event types follow the Google Merchandise Store's August 2016 (half of the visits have at most two events, one in
ten has fifteen; half of the gaps are under eight seconds). *Scattered* is the worst case for whoever batches by
user: all users in turn, in another order each time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from streams.config.settings import Settings
from streams.kafka.client_options import aiokafka_options
from streams.processing.partitioner import partitions_of

Ints = NDArray[np.int64]
SHAPES = ("bursty", "scattered")
HOURS = 12.0  # of event time: of 3 million events, a fetch of 8,000 has 4.6 a user (the Google store: 6.6)
CHUNK = 100_000  # events made and sent at a time
BATCH = 128 << 10  # bytes of a producer's batch before compression
KINDS = (
    "page_view",
    "view",
    "search",
    "add_to_cart",
    "remove_from_cart",
    "checkout",
    "purchase",
    "refund",
    "click",
)
# four kinds of shoppers, so that there is something to find: browsers, searchers, carters, buyers
SHARES = np.array(
    [
        (0.70, 0.12, 0.01, 0.02, 0.002, 0.005, 0.002, 0.000, 0.141),
        (0.50, 0.20, 0.12, 0.03, 0.003, 0.010, 0.006, 0.001, 0.130),
        (0.55, 0.18, 0.01, 0.10, 0.010, 0.030, 0.010, 0.001, 0.109),
        (0.52, 0.15, 0.02, 0.09, 0.005, 0.070, 0.040, 0.003, 0.102),
    ]
)
PURCHASE, REFUND = 6, 7
COUNTRIES = ("US", "DE", "IN", "GB", "FR", "BR", "JP", "CA")
DEVICES = ("desktop", "mobile", "mobile", "tablet")
PRODUCTS = 4_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """n events in time order. time (n,) ms; user (n,) numbers from 0; session (n,) numbers, unique in the run."""

    time: Ints
    user: Ints
    session: Ints
    seed: int

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, slots=True)
class Records:
    """Encoded events: user ids, JSON values, record times (ms), whether each goes to the topic of purchases."""

    keys: list[bytes]
    values: list[bytes]
    times: list[int]
    bought: list[bool]


def make(shape: str, events: int, users: int, *, end: int, seed: int = 1, hours: float = HOURS) -> Traffic:
    """Traffic of a shape up to the time end (ms)."""
    build = {"bursty": bursty, "scattered": scattered}[shape]
    return build(events, users, end=end, seed=seed, hours=hours)


def bursty(events: int, users: int, *, end: int, seed: int = 1, hours: float = HOURS) -> Traffic:
    rng = np.random.default_rng(seed)
    length = np.zeros(0, np.int64)
    while length.sum() < events:
        more = np.ceil(rng.lognormal(0.7, 1.35, events // 4 + 10)).astype(np.int64)
        length = np.r_[length, np.minimum(more, 300)]
    length = length[: np.searchsorted(np.cumsum(length), events) + 1]
    session = np.repeat(np.arange(len(length)), length)[:events]
    gap = (1000 * np.minimum(rng.lognormal(2.1, 1.6, events), 1500.0)).astype(np.int64)  # ms; 1,500 s: no new visit
    first = np.r_[True, session[1:] != session[:-1]]
    since = np.cumsum(gap)
    since -= since[first][session]
    span = int(hours * 3_600_000)
    time = rng.integers(0, span, len(length))[session] + since
    time = end - span + np.minimum(time, span)
    user = rng.integers(0, users, len(length))[session]
    order = np.argsort(time, kind="stable")
    return Traffic(time[order], user[order], session[order], seed)


def scattered(events: int, users: int, *, end: int, seed: int = 1, hours: float = HOURS) -> Traffic:
    rng = np.random.default_rng(seed)
    cycles = -(-events // users)
    user = np.concatenate([rng.permutation(users) for _ in range(cycles)])[:events]
    span = int(hours * 3_600_000)
    time = end - span + np.arange(events) * span // events
    half_hour = time // 1_800_000 - time[0] // 1_800_000
    return Traffic(time, user, half_hour * users + user, seed)


def ident(user: int) -> bytes:
    """A user's id: eight digits."""
    return b"%08d" % (10_000_000 + user)


def encode(traffic: Traffic, start: int = 0, stop: int | None = None) -> Records:
    """The events from start to stop as JSON; the same bytes for the same traffic, start and stop."""
    at = slice(start, stop)
    time, user, session = traffic.time[at], traffic.user[at], traffic.session[at]
    n = len(time)
    rng = np.random.default_rng((traffic.seed, start))
    kind = np.minimum((rng.random(n)[:, None] > np.cumsum(SHARES, 1)[user % 4]).sum(1), len(KINDS) - 1)
    product = (PRODUCTS * rng.random(n) ** 2).astype(np.int64)
    quantity = np.minimum(rng.geometric(0.8, n), 9).tolist()
    number = rng.integers(0, 1 << 63, n).tolist()
    text = np.datetime_as_string(time.astype("datetime64[ms]")).tolist()
    names = [f"{10_000_000 + u}" for u in user.tolist()]
    values = []
    columns = (kind.tolist(), product.tolist(), user.tolist(), session.tolist())
    for i, (k, p, u, s) in enumerate(zip(*columns, strict=True)):
        what = ""
        if k in _WITH_PRODUCT:
            what = _PRODUCT[p]
            if k != 1:
                what += f'"quantity":{quantity[i]},'
            if k >= PURCHASE:
                what += f'"transaction_id":"t{s}",'
        values.append(
            f'{{"event_time":"{text[i]}Z","event_type":"{KINDS[k]}","user_id":"{names[i]}",'
            f'"event_id":"{number[i]:016x}","session_id":"s{s}",{what}'
            f'"country":"{COUNTRIES[u % 8]}","device":"{DEVICES[u // 8 % 4]}"}}'.encode()
        )
    bought = ((kind == PURCHASE) | (kind == REFUND)).tolist()
    return Records([name.encode() for name in names], values, time.tolist(), bought)


def _products() -> list[str]:
    rng = np.random.default_rng(0)
    prices = np.round(rng.lognormal(3.0, 0.9, PRODUCTS), 2).tolist()
    return [
        f'"product_id":"p{i}","category":"category-{i % 37}","brand":"brand-{i % 211}","price":{price},'
        for i, price in enumerate(prices)
    ]


_PRODUCT = _products()
_WITH_PRODUCT = frozenset((1, 3, 4, PURCHASE, REFUND))


class Sender:
    """Puts events where Kafka's default partitioner places their users: purchases and refunds to the second source
    topic, the rest to the first; record time = event time. lz4, as many shops' producers have it."""

    def __init__(self, settings: Settings) -> None:
        self._topics, self._partitions = settings.source_topics, settings.topics.partitions
        self._producer = AIOKafkaProducer(
            **aiokafka_options(settings),
            compression_type="lz4",
            max_batch_size=BATCH,
            max_request_size=4 << 20,
        )

    async def __aenter__(self) -> Sender:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, records: Records) -> None:
        """All of them, acknowledged at the return."""
        groups: dict[tuple[str, int], list[int]] = defaultdict(list)
        clicks, purchases = self._topics[0], self._topics[-1]
        places = partitions_of(records.keys, self._partitions).tolist()
        for i, (place, bought) in enumerate(zip(places, records.bought, strict=True)):
            groups[purchases if bought else clicks, place].append(i)
        acked = await asyncio.gather(*(self._send(*at, records, mine) for at, mine in groups.items()))
        await asyncio.gather(*(one for some in acked for one in some))

    async def _send(self, topic: str, partition: int, records: Records, mine: Sequence[int]) -> list[Any]:
        sent, batch = [], self._producer.create_batch()
        keys, values, times = records.keys, records.values, records.times
        for i in mine:
            if batch.append(key=keys[i], value=values[i], timestamp=times[i]) is None:
                sent.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                batch.append(key=keys[i], value=values[i], timestamp=times[i])
        sent.append(await self._producer.send_batch(batch, topic, partition=partition))
        return sent


def chunks(traffic: Traffic) -> Iterator[Records]:
    for start in range(0, len(traffic), CHUNK):
        yield encode(traffic, start, min(start + CHUNK, len(traffic)))


def fill(settings: Settings, traffic: Traffic, progress: Callable[[int], None] = lambda _: None) -> None:
    """Send all of it as fast as it goes; progress is told how many were acknowledged."""

    async def run() -> None:
        done = 0
        async with Sender(settings) as sender:
            for records in chunks(traffic):
                await sender.send(records)
                done += len(records.keys)
                progress(done)

    asyncio.run(run())
