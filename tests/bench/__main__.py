"""`make bench`: (a) the worker, (b) the same job in stock Faust, (c) a bare loop, in turn, on one embedded Kafka."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from kafka import KafkaAdminClient
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from streams.config.settings import Settings
from streams.embedded_kafka.broker import Broker
from tests.bench import traffic, worker
from tests.bench.measure import Figure, child, fresh, progress, spread, table_console, write

STOCK_EVENTS = 100_000  # of which stock Faust is given; all would take an hour
CONTENDERS = {"c": "bare loop", "a": "shoal worker", "b": "stock Faust"}
QUANTITIES: dict[str, Callable[[Figure], float]] = {
    "events_per_second": lambda f: f.rate,
    "cpu_seconds_per_million": lambda f: f.cpu_per_million,
    "peak_mib": lambda f: f.peak_mib,
}


@click.command()
@click.option("--events", type=click.IntRange(min=10_000), default=3_000_000, show_default=True)
@click.option("--users", type=click.IntRange(min=100), default=50_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--shape", type=click.Choice([*traffic.SHAPES, "both"]), default="both", show_default=True)
@click.option("--hours", default=traffic.HOURS, show_default=True, help="Event time that the traffic is spread over.")
@click.option("--stock-events", type=click.IntRange(min=1_000), default=STOCK_EVENTS, show_default=True)
@click.option("--only", type=click.Choice(list(CONTENDERS)), multiple=True, help="Leave the other contenders out.")
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(
    events: int,
    users: int,
    rounds: int,
    shape: str,
    hours: float,
    stock_events: int,
    only: tuple[str, ...],
    home: Path,
    out: Path | None,
) -> None:
    """Events/s, CPU-seconds a million and peak memory of three programs on the same topics, round by round."""
    shapes = traffic.SHAPES if shape == "both" else (shape,)
    chosen = [name for name in CONTENDERS if not only or name in only]
    home = home.resolve()
    fresh(home)
    found: dict[str, dict[str, list[Figure]]] = {name: defaultdict(list) for name in shapes}
    with Broker.running(home) as broker, progress() as bar:
        for name in shapes:
            total = bar.add_task(f"{name}: filling", total=events)
            sources = worker.of_its_own(broker.bootstrap, name, "sources")
            made = traffic.make(name, events, users, end=int(time.time() * 1000), hours=hours)
            traffic.fill(sources, made, lambda n, at=total: bar.update(at, completed=n))  # type: ignore[misc]
            del made
        for number in range(1, rounds + 1):
            for name in shapes:
                settings = worker.of_its_own(broker.bootstrap, name, f"round{number}", **worker.FEW_SWAPS)
                for contender in chosen:
                    at = bar.add_task(f"{name}, round {number}: {CONTENDERS[contender]}", total=None)
                    figure = run(contender, settings, home, events, min(events, stock_events), bar, at)
                    found[name][contender].append(figure)
                    bar.update(at, total=events, completed=events)
                _forget(settings)
                shutil.rmtree(home / "round", ignore_errors=True)
    show(found, table_console())
    write(
        out,
        {
            "events": events,
            "users": users,
            "rounds": rounds,
            "stock_events": stock_events,
            "event_hours": hours,
            "learner": worker.FEW_SWAPS,
            "shapes": {
                name: {
                    contender: {what: spread(figures, of) for what, of in QUANTITIES.items()}
                    | {"rounds": [figure.document() for figure in figures]}
                    for contender, figures in by.items()
                }
                for name, by in found.items()
            },
        },
    )
    shutil.rmtree(home, ignore_errors=True)


def run(contender: str, settings: Settings, home: Path, events: int, stock: int, bar: Progress, at: Any) -> Figure:
    """One contender over the filled topics, in a process and with state of its own."""
    passed = {
        "bootstrap": settings.kafka.bootstrap_servers,
        "topics": ",".join(settings.source_topics),
        "home": home,
    }
    if contender == "c":
        return child("tests.bench.bare", passed | {"total": events}, 600.0)
    folder = home / "round" / contender
    folder.mkdir(parents=True)
    if contender == "a":
        return worker.measure(
            settings, folder, events, lambda n: bar.update(at, total=events, completed=n), 120.0 + events / 5_000
        )
    name = f"{settings.prefix}{settings.application}-stock"
    # at -l info Faust spares itself the spinner, which makes a record of every debug line (measured: a tenth)
    command = ["--datadir", str(folder), "-A", "tests.bench.stock_faust", "worker", "-l", "info", "--without-web"]
    return child(
        "faust",
        passed | {"total": stock, "name": name, "changes": settings.topic("segment_changes")},
        120.0 + stock / 100,
        command=command,
    )


def _forget(settings: Settings) -> None:
    """Delete a round's topics, so that the broker cleans and keeps nothing of it while others are measured."""
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    try:
        mine = f"{settings.prefix}{settings.application}-"
        admin.delete_topics([topic["name"] for topic in admin.describe_topics() if topic["name"].startswith(mine)])
    finally:
        admin.close()


def show(found: dict[str, dict[str, list[Figure]]], console: Console) -> None:
    """The table: medians, with the least and the most of the rounds."""
    table = Table("traffic", "", "events/s", "CPU-s a million", "peak MiB", "a / b", "a of c", title="medians (rounds)")
    for shape, by in found.items():
        rate = {name: spread(figures, QUANTITIES["events_per_second"])["median"] for name, figures in by.items()}
        for name in sorted(by):
            cells = []
            for what, places in (("events_per_second", 0), ("cpu_seconds_per_million", 1), ("peak_mib", 0)):
                line = spread(by[name], QUANTITIES[what])
                cells.append(f"{line['median']:,.{places}f} ({line['min']:,.{places}f} to {line['max']:,.{places}f})")
            against = f"{rate['a'] / rate['b']:,.1f}" if name == "a" and "b" in rate else ""
            share = f"{rate['a'] / rate['c']:.1%}" if name == "a" and "c" in rate else ""
            table.add_row(shape, f"({name}) {CONTENDERS[name]}", *cells, against, share)
    console.print(table)


if __name__ == "__main__":
    main()
