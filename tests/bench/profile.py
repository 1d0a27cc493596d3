"""`make profile`: microseconds an event by stage of the path, on one thread.

Traffic goes to the embedded Kafka and is fetched as the worker fetches it; then tasks over RocksDB apply it, without
Kafka, under a model learned from its first part; then what they cut is committed. A stage's time is its own, without
that of the stages that it calls; which functions are whose says tests/bench/stages.py.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import click
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.structs import TopicPartition
from rich.table import Table

from online_models.learner.learner import Learner
from state import features
from state.stores.database import block_cache
from state.stores.rocksdb import Meta, RowStore
from streams.config.factories import partition_config, schema_of
from streams.config.settings import Settings
from streams.embedded_kafka.broker import Broker
from streams.kafka import fetch
from streams.kafka.client_options import aiokafka_options
from streams.processing.outputs import training_records
from streams.processing.outputs.output_buffer import Flush, Topics
from streams.processing.partition_processor import PartitionProcessor
from streams.runtime.publisher import Publisher
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import decoder
from streams.services.learner import params
from tests.bench import traffic, worker
from tests.bench.measure import fresh, progress, table_console, write
from tests.bench.stages import STAGES, Clock, install

WARM = 0.2  # share of the events from which the model is learned; they are not measured
PASS_ROWS = 10_000


@click.command()
@click.option("--events", type=click.IntRange(min=20_000), default=600_000, show_default=True)
@click.option("--users", type=click.IntRange(min=100), default=10_000, show_default=True)
@click.option("--shape", type=click.Choice(traffic.SHAPES), default="bursty", show_default=True)
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench-profile"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(events: int, users: int, shape: str, home: Path, out: Path | None) -> None:
    """Microseconds an event by stage."""
    home = home.resolve()
    fresh(home)
    clock = Clock()
    missing = install(clock)
    with Broker.running(home) as broker, progress() as bar:
        at = bar.add_task(shape, total=4)
        settings = worker.of_its_own(broker.bootstrap, shape, "profile")
        traffic.fill(settings, traffic.make(shape, events, users, end=int(time.time() * 1000)))
        bar.advance(at)
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 20, 20)  # as the worker does
        fetched, fetch = asyncio.run(fetch_all(settings, events))
        bar.advance(at)
        count, flushes = apply(settings, home / "rows", fetched, clock)
        bar.advance(at)
        publish, waited = asyncio.run(commit(settings, flushes))
        bar.advance(at)
    lines = {"fetch": fetch / events, **{stage: clock.seconds[stage] / count for stage in STAGES}}
    lines["publish"] = publish / count
    show(lines, clock.calls, f"{shape}: {count:,} events, {sum(len(f.rows) for f in flushes):,} rows written")
    for name in missing:
        click.echo(f"not found, its time is in the caller's: {name}", err=True)
    write(
        out,
        {
            "shape": shape,
            "events": events,
            "measured": count,
            "users": users,
            "not_found": missing,
            "microseconds": {stage: seconds * 1e6 for stage, seconds in lines.items()},
            "publish_wall_microseconds": waited / count * 1e6,
            "rows_written": sum(len(flush.rows) for flush in flushes),
            "flushes": len(flushes),
            "outputs": sum(len(records) for flush in flushes for records in flush.outputs.values()),
        },
    )
    shutil.rmtree(home, ignore_errors=True)


async def fetch_all(settings: Settings, total: int) -> tuple[list[RecordBatch], float]:
    """All records in the order they came, cut as the worker cuts, and the CPU-seconds that it took: sockets, protocol,
    sums, decompression and lists."""
    consumer = AIOKafkaConsumer(
        **aiokafka_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    found: list[RecordBatch] = []
    try:
        numbers = range(settings.topics.partitions)
        consumer.assign([TopicPartition(topic, n) for topic in settings.source_topics for n in numbers])
        fetcher, seen, started = consumer._fetcher, 0, time.process_time()
        while seen < total:
            if not fetcher._records:
                await asyncio.wait([fetcher._create_fetch_waiter()], timeout=5.0)
            for tp in list(fetcher._records):
                result = fetcher._records.pop(tp)
                if type(result) is not FetchResult:
                    result.check_raise()
                    continue
                while result.has_more():
                    batch = fetch.unpack(tp, result, settings.state.max_poll_records)
                    if batch is not None:
                        found.append(batch)
                        seen += len(batch)
                fetcher._notify(fetcher._wait_consume_future)
            await asyncio.sleep(0)
        return found, time.process_time() - started
    finally:
        await consumer.stop()


def apply(settings: Settings, folder: Path, fetched: list[RecordBatch], clock: Clock) -> tuple[int, list[Flush]]:
    """Everything between bytes in and bytes out; events measured and what was cut meanwhile."""
    decode = decoder([schema_of(source, settings) for source in settings.sources])
    cache, count = block_cache(settings.state.block_cache_mb), settings.topics.partitions
    names = ("segment_changes", "segments", "alerts", "dead_letters", "training_rows", "commands_results")
    topics = Topics(*(settings.topic(name) for name in names))
    stores, tasks, queues = [], [], []
    for n in range(count):
        meta = Meta(settings.application, n, count)
        rows = settings.state.cache_rows // count
        stores.append(RowStore(folder / str(n), meta, cache_rows=rows, block_cache=cache))
        list(stores[n].build_index())
        tasks.append(PartitionProcessor(partition_config(settings, n), decode, stores[n], topics))
        mine = sorted((b for b in fetched if b.partition == n), key=lambda b: b.timestamps[0])
        queues.append(deque(mine))
    ends = {(b.topic, b.partition): b.last + 1 for b in fetched}
    warm, offset, measured = WARM * sum(map(len, fetched)), 0, 0
    learned: list[tuple[bytes | None, bytes | None]] = []
    flushes: list[Flush] = []

    def flush(n: int) -> None:
        nonlocal offset
        cut = tasks[n].cut(int(time.time() * 1000))
        if cut is not None:
            offset += len(cut.rows)
            stores[n].write_flush(cut.rows, offset, cut.index, cut.swept)
            learned.extend((key, value) for key, value, _ in cut.outputs.get((topics.training, 0), ()))
            flushes.append(cut)

    done = 0
    while any(queues):
        for n in [n for n in range(count) if queues[n]]:
            batch = queues[n].popleft()
            tasks[n].add(batch)
            applied = tasks[n].run(int(time.time() * 1000), {t: ends.get((t, n), 0) for t in settings.source_topics})
            while tasks[n].sweep(PASS_ROWS):
                pass
            flush(n)
            done += applied
            measured += applied
        if warm and done >= warm:
            _teach(settings, tasks, learned, flush)
            warm, measured = 0, 0
            flushes.clear()
            clock.clear()
    for store in stores:
        store.close()
    return measured, flushes


def _teach(
    settings: Settings,
    tasks: list[PartitionProcessor],
    learned: list[tuple[bytes | None, bytes | None]],
    flush: Callable[[int], None],
) -> None:
    """A version from the training rows so far, in force everywhere, its pass done."""
    width = 2 * features.R + len(features.PLAIN)
    keys, values = zip(*learned, strict=True)
    rows = training_records.decode(keys, values, range(len(keys)), training_records.layout(features.NAMES), width)
    version = Learner.start(params(settings)).learn(rows)[-1]
    for n, task in enumerate(tasks):
        task.adopt(version)
        flush(n)
        while task.continue_pass(PASS_ROWS):
            flush(n)


async def commit(settings: Settings, flushes: list[Flush]) -> tuple[float, float]:
    """CPU-seconds and seconds of the transactions. All go through one partition's producer, one after the other."""
    publisher = Publisher(settings, 0)
    await publisher.start()
    cpu, wall = time.process_time(), time.perf_counter()
    for flush in flushes:
        # of several partitions, the first of them not committed: each is made to follow
        publisher.committed = flush.serial._replace(number=flush.serial.number - 1)
        await publisher.commit(flush)
    took = time.process_time() - cpu, time.perf_counter() - wall
    await publisher.stop()
    return took


def show(lines: dict[str, float], calls: Counter[str], title: str) -> None:
    table = Table("stage", "µs an event", "share", "calls", title=title)
    total = sum(lines.values())
    for stage, seconds in lines.items():
        called = f"{calls[stage]:,}" if calls[stage] else ""
        table.add_row(stage, f"{seconds * 1e6:.3f}", f"{seconds / total:.1%}", called)
    table.add_row("all", f"{total * 1e6:.3f}", f"{1 / total:,.0f} events/s", "")
    table_console().print(table)


if __name__ == "__main__":
    main()
