"""`python -m tests.bench.latency`: how long after an event its segment change can be read.

History is replayed first, so that a model is in force. Then live traffic is produced at a steady rate, each event
stamped with the moment it is sent, while a reader of committed records notes when each change arrives. What is told
is arrival at the reader, by its clock, less the event's time: producer, broker, worker, transaction and reader
included; all run on one machine, so there is one clock.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition
from rich.table import Table

from streams.config.settings import Settings
from streams.embedded_kafka.broker import Broker
from streams.kafka.client_options import aiokafka_options
from streams.kafka.reader import reader
from streams.processing.partitioner import partitions_of
from tests.bench import traffic, worker
from tests.bench.measure import fresh, progress, table_console, write

TICK = 0.005  # seconds between two looks at what is due
GRACE = 5.0  # seconds that the reader stays after the last event
QUANTILES = {"median": 50, "p95": 95, "p99": 99}


@click.command()
@click.option("--rate", type=click.IntRange(min=10), default=5_000, show_default=True, help="Events a second.")
@click.option("--seconds", type=click.IntRange(min=5), default=60, show_default=True)
@click.option("--users", type=click.IntRange(min=100), default=50_000, show_default=True)
@click.option("--history", type=click.IntRange(min=10_000), default=300_000, show_default=True)
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench-latency"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(rate: int, seconds: int, users: int, history: int, home: Path, out: Path | None) -> None:
    """Time from an event to its segment change, at a steady rate of events."""
    home = home.resolve()
    fresh(home)
    with Broker.running(home) as broker, progress() as bar:
        settings = worker.of_its_own(broker.bootstrap, "live", "latency")
        now = int(time.time() * 1000)
        past = bar.add_task("history", total=history)
        traffic.fill(settings, traffic.bursty(history, users, end=now))
        with worker.running(settings, home / "worker") as shoal:
            deadline = time.monotonic() + 120 + history / 2_000
            while not settled(shoal.status(), history):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the history was not applied or no model learned in time: {shoal.log}")
                bar.update(past, completed=worker.applied(shoal.status()))
                time.sleep(0.2)
            bar.update(past, completed=history)
            before = shoal.status()
            live = bar.add_task("live", total=rate * seconds)
            events = traffic.encode(traffic.bursty(rate * seconds, users, end=now, seed=2, hours=1.0))
            found = asyncio.run(measure(settings, events, rate, lambda n: bar.update(live, completed=n)))
            after = shoal.status()
    assert before is not None
    assert after is not None
    swaps = after["newest_version"] - before["newest_version"]
    table = Table("cause", "changes", *QUANTILES, title=f"{rate:,} events/s for {seconds} s, {swaps} swaps; seconds")
    figures = {}
    for cause in ("behaviour", "first", "late"):
        took = found.delays.get(cause, [])
        line = {name: float(np.percentile(took, q)) for name, q in QUANTILES.items()} if took else {}
        figures[cause] = {"changes": len(took), **line}
        table.add_row(cause, f"{len(took):,}", *(f"{line[name]:.3f}" if took else "" for name in QUANTILES))
    table_console().print(table)
    write(
        out,
        {
            "rate": rate,
            "seconds": seconds,
            "sent_late_ms": found.behind,
            "swaps": swaps,
            "causes": figures,
            "flush_interval": settings.state.flush_interval,
        },
    )
    shutil.rmtree(home, ignore_errors=True)


def settled(state: dict[str, Any] | None, total: int) -> bool:
    """All applied under the newest version, and no pass under way."""
    if state is None or worker.applied(state) < total or not state["newest_version"]:
        return False
    parts = state["partitions"].values()
    return all(p["model_version"] == state["newest_version"] and not p["pass_under_way"] for p in parts)


class Found:
    """Delays in seconds by cause, and by how much the last event was sent after its turn (ms)."""

    def __init__(self) -> None:
        self.delays: dict[str, list[float]] = {}
        self.behind = 0.0


async def measure(settings: Settings, events: traffic.Records, rate: int, show: Callable[[int], None]) -> Found:
    """Produce at the rate and read what comes of it."""
    found = Found()
    consumer = reader(settings)
    producer = AIOKafkaProducer(**aiokafka_options(settings), compression_type="lz4", linger_ms=5)
    await consumer.start()
    await producer.start()
    try:
        tps = [TopicPartition(settings.topic("segment_changes"), n) for n in range(settings.topics.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_end(*tps)
        for tp in tps:
            await consumer.position(tp)
        reading = asyncio.create_task(_read(consumer, found, int(time.time() * 1000)))
        await _send(settings, producer, events, rate, found, show)
        await asyncio.sleep(GRACE)
        reading.cancel()
    finally:
        await producer.stop()
        await consumer.stop()
    return found


async def _send(
    settings: Settings,
    producer: AIOKafkaProducer,
    events: traffic.Records,
    rate: int,
    found: Found,
    show: Callable[[int], None],
) -> None:
    clicks, purchases = settings.source_topics
    places = partitions_of(events.keys, settings.topics.partitions).tolist()
    values = [_halves(value) for value in events.values]
    started, sent, total = time.monotonic(), 0, len(places)
    while sent < total:
        due = min(total, int((time.monotonic() - started) * rate))
        for i in range(sent, due):
            now = int(time.time() * 1000)
            await producer.send(
                purchases if events.bought[i] else clicks,
                key=events.keys[i],
                partition=places[i],
                timestamp_ms=now,
                value=b"%s%d%s" % (values[i][0], now, values[i][1]),
            )
        sent = due
        show(sent)
        await asyncio.sleep(TICK)
    found.behind = ((time.monotonic() - started) - total / rate) * 1000
    await producer.flush()


def _halves(value: bytes) -> tuple[bytes, bytes]:
    """An event before and after its time, which is a number from here on."""
    head, _, rest = value.partition(b'"event_time":"')
    return head + b'"event_time":', rest.partition(b'"')[2]


async def _read(consumer: AIOKafkaConsumer, found: Found, since: int) -> None:
    while True:
        batches = await consumer.getmany(timeout_ms=1000)
        now = time.time()
        for records in batches.values():
            for record in records:
                data = json.loads(record.value)["data"]
                at = datetime.fromisoformat(data["as_of"]).timestamp()
                if at * 1000 >= since:
                    found.delays.setdefault(data["cause"], []).append(now - at)


if __name__ == "__main__":
    main()
