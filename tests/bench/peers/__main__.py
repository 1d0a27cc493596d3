"""`make bench-peers`: the job of job.py in each engine, in turn, on one embedded Kafka.

Each engine is checked first: its records of some traffic against the oracle's. Then come speed, round by round,
latency and recovery. An engine that cannot be installed, fails or gives other records stands in the tables with the
reason.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from streams.embedded_kafka.broker import Broker
from tests.bench import traffic
from tests.bench.measure import fresh, spread, write
from tests.bench.peers import oracle, report, stages, topics
from tests.bench.peers.engine import Engine
from tests.bench.peers.report import Result
from tests.bench.peers.stages import Place

ENGINES = ("shoal", "shoal_whole", "stock_faust", "quixstreams", "bytewax", "pathway", "kafka_streams", "flink")
STAGES = ("check", "speed", "latency", "recovery")
CHECK_HOURS = 30.0  # of event time, so that panes leave the day too
CHECK_EACH = 20  # events a user when outputs are compared
SLOWEST = 300  # events/s that a check waits for
console = Console(stderr=True)


@click.command()
@click.option("--events", type=click.IntRange(min=1_000), default=3_000_000, show_default=True, help="Of a speed run.")
@click.option("--users", type=click.IntRange(min=100), default=50_000, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Of speed and recovery.")
@click.option("--shape", type=click.Choice([*traffic.SHAPES, "both"]), default="both", show_default=True)
@click.option("--hours", default=traffic.HOURS, show_default=True, help="Event time that the traffic is spread over.")
@click.option("--only", type=click.Choice(ENGINES), multiple=True, help="Leave the other engines out.")
@click.option("--stage", type=click.Choice(STAGES), multiple=True, help="Leave the other stages out.")
@click.option("--check-events", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--slow-events", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--patience", default=180.0, show_default=True, help="Seconds for a run; slower ones get --slow-events.")
@click.option("--latency-seconds", type=click.IntRange(min=5), default=30, show_default=True)
@click.option("--recovery-users", type=click.IntRange(min=1_000), default=100_000, show_default=True)
@click.option("--partitions", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Of engines that have some.")
@click.option("--commit", type=float, help="Seconds between two commits, for all; by default each engine's own.")
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench-peers"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables there too.")
def main(home: Path, out: Path | None, markdown: Path | None, only: tuple[str, ...], **chosen: Any) -> None:
    """The same small job in shoal's parts and in other engines: outputs, speed, latency, recovery."""
    home = home.resolve()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of each topic that is new; errors are raised
    results = prepared([name for name in ENGINES if not only or name in only], chosen["commit"])
    shapes = traffic.SHAPES if chosen["shape"] == "both" else (chosen["shape"],)
    wanted = chosen["stage"] or STAGES
    fresh(home)
    try:
        with Broker.running(home) as broker:
            place = Place(broker.bootstrap, home, chosen["partitions"], chosen["threads"], chosen["commit"])
            bench = Bench(place, results, shapes, chosen)
            for stage in STAGES:
                if stage in wanted:
                    bench.run(stage)
                    write(out, document(results, chosen))  # what there is, should a later stage be cut short
    finally:
        logs = sorted(home.glob("*.log"))
        kept = home.with_name(home.name + "-logs")
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for log in logs:
            shutil.move(log, kept)
        shutil.rmtree(home, ignore_errors=True)
    tables = report.markdown(results.values(), shapes)
    if markdown is not None:
        markdown.write_text(tables, encoding="utf-8")
    click.echo(tables)


def document(results: dict[str, Result], chosen: dict[str, Any]) -> dict[str, Any]:
    return {"options": chosen, "engines": {name: result.document() for name, result in results.items()}}


def prepared(names: list[str], commit: float | None) -> dict[str, Result]:
    """The engines, installed and built; one that cannot be has that as its failure."""
    results = {}
    for name in names:
        engine: Engine = importlib.import_module(f"tests.bench.peers.engines.{name}").ENGINE
        results[name] = Result(engine, engine.commit if commit is None else commit)
        console.print(f"{engine.name}: preparing")
        guarded(results[name], "preparing", engine.prepare)
    return results


def guarded(result: Result, stage: str, work: Callable[[], object]) -> None:
    """A failure is the engine's result in that stage."""
    try:
        if told := work():
            console.print(f"  {told}", markup=False)
    except Exception as error:
        result.failures[stage] = f"{type(error).__name__}: {error}"
        last = "\n".join(str(error).splitlines()[-4:])
        console.print(f"  failed: {last}", markup=False)


class Bench:
    """The stages over all engines, and what they share."""

    def __init__(
        self, place: Place, results: dict[str, Result], shapes: tuple[str, ...], chosen: dict[str, Any]
    ) -> None:
        self._place, self._results, self._shapes, self._chosen = place, results, shapes, chosen
        self._now = int(time.time() * 1000)
        self._filled: dict[tuple[str, int], topics.Filled] = {}
        self._rough: dict[str, float] = {}  # events/s of the check, by engine

    def run(self, stage: str) -> None:
        {"check": self._check, "speed": self._speed, "latency": self._latency, "recovery": self._recovery}[stage]()

    def _each(self, stage: str, work: Callable[[str, Result], str]) -> None:
        """The engines that are there, in turn; a failure is the engine's result. work: returns what to tell."""
        for name, result in self._results.items():
            if "preparing" not in result.failures and (stage.startswith("speed") or not result.engine.speed_only):
                console.print(f"{stage}, {result.engine.name}")
                guarded(result, stage, partial(work, name, result))

    def _check(self) -> None:
        """Outputs of little traffic with many events a user, against the oracle."""
        events, partitions = self._chosen["check_events"], self._place.partitions
        users = max(1, events // CHECK_EACH)
        for shape in self._shapes:
            made = list(topics.chunks(shape, events, users, CHECK_HOURS, partitions, self._now))
            pairs = [pair for part in made for pair in zip(part.keys, part.values, strict=True)]
            wanted = oracle.expected(pairs)
            filled = topics.fill(self._place.bootstrap, f"check-{shape}", partitions, iter(made))
            self._each(f"check, {shape}", partial(self._check_one, shape, filled, wanted))
            topics.forget(self._place.bootstrap, filled.topic)

    def _check_one(self, shape: str, filled: topics.Filled, wanted: oracle.Changes, name: str, result: Result) -> str:
        run, patience = f"{name}-check-{shape}", filled.events / SLOWEST
        figure, found = stages.check(result.engine, self._place, filled, wanted, run, patience)
        result.checks[shape] = found
        self._rough[name] = min(figure.rate, self._rough.get(name, figure.rate))
        return f"{found.records:,} records, {'equal' if found.equal else f'NOT EQUAL: {found}'}"

    def _speed(self) -> None:
        for shape in self._shapes:
            for number in range(1, self._chosen["rounds"] + 1):
                self._each(f"speed, {shape}, round {number}", partial(self._speed_one, shape, number))

    def _speed_one(self, shape: str, number: int, name: str, result: Result) -> str:
        filled = self._traffic(shape, self._affordable(name, self._chosen["events"]))
        run, patience = f"{name}-speed-{shape}-{number}", 2 * self._chosen["patience"]
        figure = stages.speed(result.engine, self._place, filled, run, patience)
        result.speeds.setdefault(shape, []).append(figure)
        cost = f"{figure.cpu_per_million:.1f} CPU-seconds a million, {figure.peak_mib:,.0f} MiB"
        return f"{figure.rate:,.0f} events/s, {cost}"

    def _latency(self) -> None:
        self._each("latency", self._latency_one)

    def _latency_one(self, name: str, result: Result) -> str:
        figures = next((result.speeds[shape] for shape in self._shapes if shape in result.speeds), None)
        top = spread(figures, lambda figure: figure.rate)["median"] if figures else self._rough.get(name)
        if top is None:
            raise RuntimeError("its speed is not known")
        rate, seconds, users = max(1, int(top / 3)), self._chosen["latency_seconds"], self._chosen["users"]
        result.latency.update(stages.latency(result.engine, self._place, f"{name}-latency", rate, seconds, users))
        return str(result.latency)

    def _recovery(self) -> None:
        self._each("recovery", self._recovery_one)

    def _recovery_one(self, name: str, result: Result) -> str:
        """In a topic of the engine's own: the probes go on at its end."""
        rounds, place = self._chosen["rounds"], self._place
        probed = [users for some in stages.probes(place.partitions, rounds).values() for users in some]
        users = self._affordable(name, 2 * self._chosen["recovery_users"]) // 2
        made = topics.many_users(users, probed, place.partitions)
        filled = topics.fill(place.bootstrap, f"many-{name}", place.partitions, made)
        try:
            patience = self._chosen["patience"]
            found = stages.recovery(result.engine, place, filled, f"{name}-recovery", rounds, patience)
        finally:
            topics.forget(place.bootstrap, filled.topic)
        result.recovery.update(found, users=users)
        return str(result.recovery)

    def _traffic(self, shape: str, events: int) -> topics.Filled:
        """A topic of that traffic, filled when it is first asked for."""
        if (shape, events) not in self._filled:
            topic = f"traffic-{shape}-{events}"
            users, hours = self._chosen["users"], self._chosen["hours"]
            made = topics.chunks(shape, events, users, hours, self._place.partitions, self._now)
            filled = topics.fill(self._place.bootstrap, topic, self._place.partitions, made)
            self._filled[shape, events] = filled
        return self._filled[shape, events]

    def _affordable(self, name: str, events: int) -> int:
        """How many events an engine gets: fewer, where all would take longer than the patience."""
        rate = self._rough.get(name)
        slow = rate is not None and events / rate > self._chosen["patience"]
        return min(events, self._chosen["slow_events"]) if slow else events


if __name__ == "__main__":
    main()
