"""`python -m tests.bench.partitions`: what many partitions cost one worker.

It starts without state, applies a backlog, stands idle, and starts again over its local state. Each partition has a
store, a transactional producer and a task of its own; this shows what they add up to.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from streams.config.settings import Settings
from streams.embedded_kafka.broker import Broker
from tests.bench import traffic, worker
from tests.bench.measure import cpu_seconds, fresh, memory_mib, progress, table_console, write

END = 1_750_000_000_000  # ms, of event time
QUIET = 10.0  # seconds after the last event before the worker counts as idle
PATIENCE = 500.0  # seconds for the backlog
SEED = 11
FORMS = {
    "start_seconds": ("start to ready without state, s", ".1f"),
    "start_cpu_seconds": ("CPU-seconds of it", ".1f"),
    "ready_mib": ("resident then, MiB", ",.0f"),
    "events_per_second": ("events/s of a backlog", ",.0f"),
    "cpu_seconds_per_million": ("CPU-seconds a million", ".1f"),
    "settled_mib": ("resident after it, MiB", ",.0f"),
    "threads": ("threads", ".0f"),
    "open_files": ("open files", ".0f"),
    "idle_cpu_percent": ("CPU idle, % of a core", ".1f"),
    "restart_seconds": ("start to ready over local state, s", ".1f"),
    "restart_cpu_seconds": ("CPU-seconds of it", ".1f"),
}


@click.command()
@click.option("--partitions", type=click.IntRange(min=1), multiple=True, default=[4, 100], show_default=True)
@click.option("--events", type=click.IntRange(min=1_000), default=500_000, show_default=True)
@click.option("--users", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--idle", type=click.FloatRange(min=1.0), default=20.0, show_default=True, help="Seconds.")
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench-partitions"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(partitions: tuple[int, ...], events: int, users: int, idle: float, home: Path, out: Path | None) -> None:
    """A worker that has all partitions of a deployment: start, events/s, memory, threads, open files, idle CPU."""
    home = home.resolve()
    fresh(home)
    found: dict[int, dict[str, float]] = {}
    made = traffic.make("bursty", events, users, end=END, seed=SEED)
    with Broker.running(home) as broker, progress() as bar:
        for count in partitions:
            chosen = worker.FEW_SWAPS | {"topics.partitions": count}
            settings = worker.of_its_own(broker.bootstrap, f"parts-{count}", f"parts-{count}", **chosen)
            sent = bar.add_task(f"events for {count} partitions", total=events)
            found[count] = measured(
                settings, made, home / f"worker-{count}", idle, lambda n, at=sent: bar.update(at, completed=n)
            )
    table = Table("partitions", *map(str, found), title=f"{events:,} events of {users:,} users, one worker")
    for name, (title, form) in FORMS.items():
        table.add_row(title, *(f"{figures[name]:{form}}" for figures in found.values()))
    table_console().print(table)
    write(out, {"events": events, "users": users, "partitions": found})
    shutil.rmtree(home, ignore_errors=True)


def measured(settings: Settings, made: traffic.Traffic, folder: Path, idle: float, show: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    started = time.monotonic()
    with worker.running(settings, folder) as shoal:
        pid = shoal.process.pid
        wait_until_ready(shoal)
        found["start_seconds"], found["start_cpu_seconds"] = time.monotonic() - started, cpu_seconds(pid)
        found["ready_mib"] = memory_mib(pid, "VmRSS")
    # the backlog is sent to a worker that is not there, so that the producer does not take its processor time
    traffic.fill(settings, made, show)
    with worker.running(settings, folder) as shoal:
        pid, total = shoal.process.pid, len(made)
        wait_until_ready(shoal)
        begun, cpu, first = time.monotonic(), cpu_seconds(pid), worker.applied(shoal.status())
        while (applied := worker.applied(shoal.status())) < total:
            if time.monotonic() - begun > PATIENCE:
                raise RuntimeError(f"{applied} of {total} events were applied within {PATIENCE:.0f} s: {shoal.log}")
            time.sleep(0.05)
        seconds = time.monotonic() - begun
        found["events_per_second"] = (total - first) / seconds
        found["cpu_seconds_per_million"] = (cpu_seconds(pid) - cpu) / (total - first) * 1e6
        time.sleep(QUIET)
        found["settled_mib"] = memory_mib(pid, "VmRSS")
        found["threads"] = float(len(list(Path(f"/proc/{pid}/task").iterdir())))
        found["open_files"] = float(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        begun, cpu = time.monotonic(), cpu_seconds(pid)
        time.sleep(idle)
        found["idle_cpu_percent"] = (cpu_seconds(pid) - cpu) / (time.monotonic() - begun) * 100
    started = time.monotonic()
    with worker.running(settings, folder) as shoal:
        wait_until_ready(shoal)
        found["restart_seconds"] = time.monotonic() - started
        found["restart_cpu_seconds"] = cpu_seconds(shoal.process.pid)
    return found


def wait_until_ready(shoal: worker.Running) -> None:
    begun = time.monotonic()
    while shoal.status() is None:
        if time.monotonic() - begun > PATIENCE:
            raise RuntimeError(f"the worker is not ready within {PATIENCE:.0f} s: {shoal.log}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
