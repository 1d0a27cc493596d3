"""`python -m tests.bench.blocks`: how long a worker's event loop stands still at a time.

Two things take long as a whole: the expiry index of a recovered partition is built, and a batch of erasures is carried
out. Both are done as a worker does them, in turns; a task beside them notes how long it was kept from running. One
partition with RocksDB, no Kafka.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
from rich.table import Table

from state.stores.rocksdb import Meta, RowStore
from streams.compiling import ensure_compiled
from streams.config.factories import forget_units, partition_config, schema_of
from streams.config.settings import Settings, load
from streams.processing.commands import Command, encode
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_processor import PartitionProcessor
from streams.runtime import heap
from streams.runtime.assignment import Assignment
from streams.runtime.partition import Partition
from streams.runtime.recovery import Recovery
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import decoder
from tests.bench import traffic
from tests.bench.measure import fresh, table_console, write
from tests.bench.recovery import rows_made

FILL = 20_000  # rows at a time
SEED = 5


@click.command()
@click.option("--users", type=click.IntRange(min=10_000), default=1_000_000, show_default=True)
@click.option("--erasures", type=click.IntRange(min=1), default=2_000, show_default=True)
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench-blocks"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(users: int, erasures: int, home: Path, out: Path | None) -> None:
    """Milliseconds for which the event loop stands still at a time."""
    fresh(home)
    chosen: dict[str, object] = {"topics.partitions": 1}
    settings = load(environ={}, **chosen)
    ensure_compiled()
    store = filled_store(settings, home / "0", users)
    heap.tune_collector()  # as a worker does
    found = {"expiry index": asyncio.run(blocks(lambda: build_index(settings, store)))}
    task = asked(settings, store, users, erasures)
    found["erasures"] = asyncio.run(blocks(lambda: carry_out(task)))
    assert task.progress.users == -erasures  # the progress counts only what was applied here
    store.close()
    table = Table("", "in all, s", "longest block, ms", "of processor time, ms", title=f"{users:,} users")
    for what, figures in found.items():
        table.add_row(what, *(f"{figures[name]:,.1f}" for name in ("seconds", "longest_ms", "longest_cpu_ms")))
    table_console().print(table)
    write(out, {"users": users, "erasures": erasures, "blocks": found})
    shutil.rmtree(home, ignore_errors=True)


def filled_store(settings: Settings, path: Path, users: int) -> RowStore:
    """A store as a recovery from an empty disk leaves it: rows in any order, no expiry index."""
    made = rows_made(settings)
    meta = Meta(settings.application, 0, 1)
    store = RowStore(path, meta, cache_rows=settings.state.cache_rows, forget_units=forget_units(settings))
    rng = np.random.default_rng(SEED)
    order = rng.permutation(users)
    for at in range(0, users, FILL):
        some = order[at : at + FILL].tolist()
        chosen = rng.integers(0, len(made), len(some)).tolist()
        store.apply([traffic.ident(i) for i in some], [made[j] for j in chosen], at + len(some))
    return store


async def blocks(work: Callable[[], Awaitable[None]]) -> dict[str, float]:
    """Seconds that work takes, and the longest time between two runs of a task beside it."""
    longest = longest_cpu = 0.0

    async def watch() -> None:
        nonlocal longest, longest_cpu
        now, cpu = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0)
            before, cpu_before, now, cpu = now, cpu, time.perf_counter(), time.thread_time()
            longest, longest_cpu = max(longest, now - before), max(longest_cpu, cpu - cpu_before)

    watching = asyncio.ensure_future(watch())
    await asyncio.sleep(0)
    started = time.perf_counter()
    await work()
    seconds = time.perf_counter() - started
    await asyncio.sleep(0)
    watching.cancel()
    return {"seconds": seconds, "longest_ms": longest * 1000, "longest_cpu_ms": longest_cpu * 1000}


async def build_index(settings: Settings, store: RowStore) -> None:
    """As an assignment does."""
    assignment: Any = SimpleNamespace(recovery=Recovery(settings.changelog, 600.0))
    await Assignment._complete_index(assignment, Partition(0, store, None, None))  # type: ignore[arg-type]


def asked(settings: Settings, store: RowStore, users: int, erasures: int) -> PartitionProcessor:
    """A task in which one fetch of erasures is queued."""
    topic = settings.topic("commands")
    schemas = [schema_of(source, settings) for source in settings.sources]
    task = PartitionProcessor(
        partition_config(settings, 0),
        decoder(schemas, use_clock=False),
        store,
        Topics("segment-changes", "segments", "alerts", "dead-letters", "training-rows", "commands-results"),
        commands=topic,
    )
    chosen = np.random.default_rng(SEED).permutation(users)[:erasures].tolist()
    names = [traffic.ident(i) for i in chosen]
    values: list[bytes | None] = [encode(Command("erase", name.decode(), user_id=name.decode())) for name in names]
    task.add(RecordBatch(topic, 0, 0, erasures - 1, list(range(erasures)), [*names], values, [0] * erasures))
    return task


async def carry_out(task: PartitionProcessor) -> None:
    """As a worker does."""
    while task.carry_out_commands(int(time.time() * 1000)):
        await asyncio.sleep(0)


if __name__ == "__main__":
    main()
