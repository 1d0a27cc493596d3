"""The topics of a run: created, filled with traffic between markers, deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove, NewTopic
from numpy.typing import NDArray

from streams.config.settings import Settings, load
from streams.processing.partitioner import partitions_of
from tests.bench import traffic
from tests.bench.traffic import Records

# the broker's clock: what was appended in a transaction has the time of its append, not of its commit
APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
TOP_PRICE = 500.0  # an event of it is in the highest class


@dataclass(frozen=True, slots=True)
class Filled:
    """A topic of events. Each of its partitions begins and ends with a purchase by a user of its own, which gives a
    record: the first tells when an engine has begun, the last when all before it is done. times: of each partition's
    events, ms, ascending, as they lie there."""

    topic: str
    starts: tuple[bytes, ...]
    ends: tuple[bytes, ...]
    times: tuple[NDArray[np.int64], ...]

    @property
    def events(self) -> int:
        return sum(map(len, self.times))

    def up_to(self, partition: int, time: int) -> int:
        """How many events of a partition are not after a time (ms)."""
        return int(np.searchsorted(self.times[partition], time, side="right"))


def settings_of(bootstrap: str, topic: str, partitions: int) -> Settings:
    """What the senders and readers of the benches want to know."""
    return load(
        environ={},
        sources=[{"name": topic}],
        **{"kafka.bootstrap_servers": bootstrap, "topics.partitions": partitions},
    )


def create(bootstrap: str, topic: str, partitions: int, config: dict[str, str] | None = None) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        size = {"max.message.bytes": str(16 << 20), "retention.ms": "-1"}
        new = NewTopic(topic, partitions, 1, topic_configs=size | (config or {}))
        admin.create_topics([new], wait_for_metadata=True)
    finally:
        admin.close()


def forget(bootstrap: str, *prefixes: str) -> None:
    """Delete the topics whose names begin so: the broker cleans and keeps nothing of them while others are measured."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.delete_topics([t["name"] for t in admin.describe_topics() if t["name"].startswith(prefixes)])
    finally:
        admin.close()


def remove_members(bootstrap: str, group: str) -> None:
    """Take killed processes out of their group: how long a session lasts is a setting, and not what is measured."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        members = admin.describe_groups([group])[group]["members"]
        if dead := [MemberToRemove(member["member_id"]) for member in members]:
            admin.remove_group_members(group, dead)
    finally:
        admin.close()


def users_of(name: str, partitions: int) -> tuple[bytes, ...]:
    """A user for each partition, named so."""
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < partitions:
        user = b"%s-%d" % (name.encode(), number)
        found.setdefault(int(partitions_of([user], partitions)[0]), user)
        number += 1
    return tuple(found[partition] for partition in range(partitions))


def click(user: bytes, at: int, kind: str = "purchase", price: float = TOP_PRICE) -> bytes:
    """An event as the traffic has them; at: ms."""
    text = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    order = f'"price":{price},"quantity":1,' if kind == "purchase" else ""
    return f'{{"event_time":"{text}","event_type":"{kind}","user_id":"{user.decode()}",{order}"country":"DE"}}'.encode()


def purchases(users: tuple[bytes, ...], at: int, price: float = TOP_PRICE) -> Records:
    return Records(
        list(users), [click(user, at, price=price) for user in users], [at] * len(users), [True] * len(users)
    )


def send(settings: Settings, found: Iterator[Records]) -> None:
    """Chunk after chunk, acknowledged."""

    async def run() -> None:
        async with traffic.Sender(settings) as sender:
            for records in found:
                await sender.send(records)

    asyncio.run(run())


def chunks(shape: str, events: int, users: int, hours: float, partitions: int, now: int) -> Iterator[Records]:
    """The events of a filled topic, markers included."""
    made = traffic.make(shape, events, users, end=now, hours=hours)
    yield purchases(users_of("start", partitions), int(made.time[0]))
    yield from traffic.chunks(made)
    yield purchases(users_of("end", partitions), int(made.time[-1]))


def fill(bootstrap: str, topic: str, partitions: int, found: Iterator[Records]) -> Filled:
    """A new topic with these events, which have the markers of chunks()."""
    create(bootstrap, topic, partitions)
    times: list[list[NDArray[np.int64]]] = [[] for _ in range(partitions)]

    def noted() -> Iterator[Records]:
        for records in found:
            place, time_of = partitions_of(records.keys, partitions), np.array(records.times, np.int64)
            for partition, mine in enumerate(times):
                mine.append(time_of[place == partition])
            yield records

    send(settings_of(bootstrap, topic, partitions), noted())
    starts, ends = users_of("start", partitions), users_of("end", partitions)
    return Filled(topic, starts, ends, tuple(map(np.concatenate, times)))


def many_users(users: int, probes: list[tuple[bytes, ...]], partitions: int) -> Iterator[Records]:
    """Two page views of each user, within minutes; probes: users that have bought something before."""
    base = int(time.time() * 1000) - 600_000
    yield purchases(users_of("start", partitions), base)
    for some in probes:
        yield purchases(some, base, price=100.0)
    for visit in range(2):
        at = base + 1000 * visit
        for first in range(0, users, traffic.CHUNK):
            names = [traffic.ident(i) for i in range(first, min(users, first + traffic.CHUNK))]
            views = [click(name, at, "page_view") for name in names]
            yield Records(names, views, [at] * len(names), [False] * len(names))
    yield purchases(users_of("end", partitions), base + 2000)
