"""`python -m tests.bench.rekey`: how fast one re-keyer goes through a backlog, alone in its process.

The raw topic has three partitions; each event lies in the one that its session's number says, without a key.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import click
import numpy as np
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from streams.config.settings import load
from streams.embedded_kafka.broker import Broker
from streams.kafka.topics import ensure
from streams.services.repartitioner import RepartitionService
from tests.bench import traffic
from tests.bench.measure import cpu_seconds, fresh, progress, write

RAW = "raw-clicks"


@click.command()
@click.option("--events", type=click.IntRange(min=10_000), default=1_000_000, show_default=True)
@click.option("--users", type=click.IntRange(min=100), default=50_000, show_default=True)
@click.option("--partitions", type=click.IntRange(min=1), default=3, show_default=True, help="Of the raw topic.")
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench-rekey"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(events: int, users: int, partitions: int, home: Path, out: Path | None) -> None:
    """Events a second of re-keying."""
    home = home.resolve()
    fresh(home)
    with Broker.running(home) as broker, progress() as bar:
        settings = load(
            environ={},
            **{
                "kafka.bootstrap_servers": broker.bootstrap,
                "topics.replication": 1,
                "topics.min_insync_replicas": 1,
                "topics.source_retention": -1,
                "sources": [{"name": "clickstream", "rekey_from": RAW}],
            },
        )
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics([NewTopic(RAW, partitions, 1)], wait_for_metadata=True)
        admin.close()
        ensure(settings)
        made = traffic.bursty(events, users, end=int(time.time() * 1000))
        producer = KafkaProducer(
            bootstrap_servers=broker.bootstrap, linger_ms=20, batch_size=256 << 10, compression_type="gzip"
        )
        filled = bar.add_task("filled", total=events)
        done = 0
        for start in range(0, events, traffic.CHUNK):
            values = traffic.encode(made, start, start + traffic.CHUNK).values
            where = (made.session[start : start + traffic.CHUNK] % partitions).tolist()
            for value, partition in zip(values, where, strict=True):
                producer.send(RAW, value, partition=partition)
            done += len(values)
            bar.update(filled, completed=done)
        producer.close()
        counts: Counter[str] = Counter()
        rekeyer = RepartitionService(settings, settings.sources[0], counts.update)

        async def run() -> tuple[float, float]:
            before, began = cpu_seconds(), time.monotonic()
            work = asyncio.ensure_future(rekeyer.run())
            while counts["rekeyed:clickstream"] < events and not work.done():
                await asyncio.sleep(0.05)
            took, cpu = time.monotonic() - began, cpu_seconds() - before
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            return took, cpu

        took, cpu = asyncio.run(run())
    found = {"events": events, "events_per_second": round(events / took), "cpu_seconds_a_million": cpu / events * 1e6}
    click.echo(f"{found['events_per_second']:,} events/s, {np.round(cpu / events * 1e6, 1)} CPU-seconds a million")
    write(out, found)


if __name__ == "__main__":
    main()
