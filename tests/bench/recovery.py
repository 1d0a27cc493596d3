"""`python -m tests.bench.recovery`: how long a worker takes from its assignment to ready, with many users.

The changelog is written as a worker writes it: rows that the core made of generated traffic, in transactions of the
worker's own publisher, each with a progress; every user's row once, then all of them again in another order, so that
two versions of a row lie there at most. Each round starts a real worker twice: on an empty disk, which reads all of the
changelog, and again on what that left on its disk. In between it is stopped by SIGKILL, so that the second finds a
store that was not closed.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from state.stores.memory import MemoryStore
from streams.config.settings import Settings
from streams.embedded_kafka.broker import Broker
from streams.offline.backfill import apply_records
from streams.offline.event_files import FileRecord
from streams.processing import progress
from streams.processing.outputs.output_buffer import Flush
from streams.processing.partitioner import partitions_of
from streams.processing.progress import PROGRESS_KEY, Progress, Source
from streams.runtime.log_bounds import read_log_bounds
from streams.runtime.publisher import Publisher
from streams.schemas.flat_json import FlatJson
from tests.bench import traffic, worker
from tests.bench.measure import cpu_seconds, fresh, memory_mib, table_console, write
from tests.bench.measure import progress as bar_of

FLUSH = 20_000  # rows a transaction
MODELS = 20_000  # users of which rows are made; the others get a copy of one of theirs
EVENTS = 8  # of each of them
SEED = 5


@click.command()
@click.option("--users", type=click.IntRange(min=1_000), default=1_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench-recovery"), show_default=True)
@click.option("--keep", is_flag=True, help="Leave topics and state in place; the next run with --keep goes on there.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(users: int, rounds: int, home: Path, keep: bool, out: Path | None) -> None:
    """Seconds from assignment to ready: from an empty disk, and from the local one."""
    home = home.resolve()
    done = home / f"changelog-of-{users}"
    if not (keep and done.exists()):
        fresh(home)
    with Broker.running(home) as broker, bar_of() as bar:
        settings = worker.of_its_own(broker.bootstrap, "many", "recovery", **{"state.cache_rows": 1_000_000})
        if not done.exists():
            sent = bar.add_task("rows written", total=2 * users)
            asyncio.run(fill(settings, users, lambda count: bar.advance(sent, count)))
            done.touch()
        steps = bar.add_task("starts", total=2 * rounds)
        found: dict[str, list[dict[str, float]]] = {"empty": [], "local": []}
        for _ in range(rounds):
            shutil.rmtree(home / "worker", ignore_errors=True)
            for disk in ("empty", "local"):
                found[disk].append(start(settings, home / "worker"))
                bar.advance(steps)
    figures = {"users": users, "rounds": found, "row_bytes": float(np.mean([len(row) for row in rows_made(settings)]))}
    table(users, found)
    write(out, figures)
    if not keep:
        shutil.rmtree(home, ignore_errors=True)


def start(settings: Settings, folder: Path) -> dict[str, float]:
    """One worker up to ready, then killed."""
    begun = time.monotonic()
    with worker.running(settings, folder) as shoal:
        while shoal.status() is None:
            time.sleep(0.05)
        seconds, pid = time.monotonic() - begun, shoal.process.pid
        told = re.findall(r"ready ([\d.]+) s after the assignment, ([\d,]+) of", shoal.log.read_text())[-1]
        state = shoal.status()
        assert state is not None
        found = {
            "seconds": float(told[0]),
            "records": float(told[1].replace(",", "")),
            "from_start": seconds,
            "cpu_seconds": cpu_seconds(pid),
            "peak_mib": memory_mib(pid),
            "users": float(sum(part["users"] for part in state["partitions"].values())),
        }
        os.kill(pid, signal.SIGKILL)
        shoal.process.wait()
    return found


async def fill(settings: Settings, users: int, show: Any) -> None:
    """The changelog of that many users, each row twice."""
    names = np.array([traffic.ident(i) for i in range(users)], object)
    number = partitions_of(names.tolist(), settings.topics.partitions)
    models = rows_made(settings)
    rng = np.random.default_rng(SEED)
    for partition in range(settings.topics.partitions):
        publisher = Publisher(settings, partition)
        await publisher.start()
        ids = read_log_bounds(settings, [partition]).topic_ids
        mine = np.flatnonzero(number == partition)
        now = Progress(users=len(mine), sources={name: Source(topic=ids[name]) for name in settings.source_topics})
        for _ in range(2):
            order = rng.permutation(mine)
            for at in range(0, len(order), FLUSH):
                some = order[at : at + FLUSH]
                now.number += 1
                now.ordinal += len(some)
                now.wall = int(time.time() * 1000)
                chosen = rng.integers(0, len(models), len(some)).tolist()
                rows: dict[bytes, bytes | None] = {names[i]: models[j] for i, j in zip(some, chosen, strict=True)}
                rows[PROGRESS_KEY] = progress.dumps(now)
                await publisher.commit(Flush(rows, {}, {}, {}, 0, now.serial, np.zeros(0, np.int64)))
                show(len(some))
        await publisher.stop()


def rows_made(settings: Settings) -> list[bytes]:
    """Rows as the core makes them of some hours of scattered traffic."""
    made = traffic.make("scattered", MODELS * EVENTS, MODELS, end=int(time.time() * 1000), seed=SEED)
    chunks = (
        [FileRecord(*one) for one in zip(records.keys, records.values, records.times, records.bought, strict=True)]
        for records in traffic.chunks(made)
    )
    store = MemoryStore()
    with tempfile.TemporaryDirectory() as folder:
        assert not apply_records(settings, chunks, FlatJson(), store, Path(folder))
    return list(store.rows.values())


def table(users: int, found: dict[str, list[dict[str, float]]]) -> None:
    lines = Table(
        "disk",
        "ready after, s",
        "from the process's start, s",
        "records read",
        "CPU-s",
        "peak MiB",
        title=f"{users:,} users: from the assignment to ready, median (least-most)",
    )
    for disk, rounds in found.items():
        row = [disk]
        for name, form in (
            ("seconds", ".1f"),
            ("from_start", ".1f"),
            ("records", ",.0f"),
            ("cpu_seconds", ".1f"),
            ("peak_mib", ",.0f"),
        ):
            values = [one[name] for one in rounds]
            row.append(f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})")
        lines.add_row(*row)
    table_console().print(lines)


if __name__ == "__main__":
    main()
