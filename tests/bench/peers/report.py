"""The results as JSON, and as markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.bench.measure import Figure, spread
from tests.bench.peers.engine import Engine
from tests.bench.peers.oracle import Comparison


@dataclass
class Result:
    """All that was found of one engine. failures: what went wrong, by stage."""

    engine: Engine
    commit: float
    checks: dict[str, Comparison] = field(default_factory=dict)  # by shape
    speeds: dict[str, list[Figure]] = field(default_factory=dict)  # by shape
    latency: dict[str, Any] = field(default_factory=dict)
    recovery: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "version": self.engine.version,
            "guarantee": self.engine.guarantee,
            "commit_seconds": self.commit,
            "note": self.engine.note,
            "outputs": {shape: asdict(found) | {"equal": found.equal} for shape, found in self.checks.items()},
            "speed": {
                shape: {
                    "events_per_second": spread(figures, lambda figure: figure.rate),
                    "cpu_seconds_per_million": spread(figures, lambda figure: figure.cpu_per_million),
                    "peak_mib": spread(figures, lambda figure: figure.peak_mib),
                    "rounds": [figure.document() for figure in figures],
                }
                for shape, figures in self.speeds.items()
            },
            "latency": self.latency,
            "recovery": self.recovery,
            "failures": self.failures,
        }


def markdown(results: Iterable[Result], shapes: Sequence[str]) -> str:
    """The tables, one below the other; an engine that failed stands there with the reason."""
    results = list(results)
    same_job = [result for result in results if not result.engine.speed_only]
    parts = [_engines(results), *(_speeds(results, shape) for shape in shapes), _latencies(same_job)]
    parts.append(_recoveries(same_job))
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"### {title}", "", "| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _outputs(result: Result) -> str:
    told = ["another job"] if result.engine.speed_only else []
    for shape, found in result.checks.items():
        if found.equal:
            told.append(f"{shape}: equal ({found.records:,} records)")
        else:
            counts = f"{found.missing:,} missing, {found.surplus:,} surplus, {found.wrong:,} users wrong"
            told.append(f"{shape}: NOT EQUAL ({counts})")
    return "; ".join(told)


def _failed(result: Result) -> str:
    return "; ".join(f"{stage}: {reason.splitlines()[0][:200]}" for stage, reason in result.failures.items())


def _engines(results: Sequence[Result]) -> str:
    return _table(
        "Engines and outputs",
        ("engine", "version", "guarantee", "commits, s", "outputs against the oracle", "failed", "how it is run"),
        (
            (
                result.engine.name,
                result.engine.version,
                result.engine.guarantee,
                f"{result.commit:g}",
                _outputs(result),
                _failed(result),
                result.engine.note,
            )
            for result in results
        ),
    )


def _cell(figures: Sequence[Figure], places: int, what: str) -> str:
    found = spread(figures, lambda figure: getattr(figure, what))
    if len(figures) == 1:
        return f"{found['median']:,.{places}f}"
    return f"{found['median']:,.{places}f} ({found['min']:,.{places}f}-{found['max']:,.{places}f})"


def _speeds(results: Sequence[Result], shape: str) -> str:
    rows = []
    for result in results:
        if figures := result.speeds.get(shape):
            starts = sorted(figure.more["start_seconds"] for figure in figures if "start_seconds" in figure.more)
            started = f"{starts[len(starts) // 2]:.1f}" if starts else ""
            included = " (start included)" if any("start_included" in figure.more for figure in figures) else ""
            rows.append(
                (
                    result.engine.name + _doubt(result, shape),
                    f"{figures[0].events:,}",
                    _cell(figures, 0, "rate") + included,
                    _cell(figures, 1, "cpu_per_million"),
                    _cell(figures, 0, "peak_mib"),
                    started,
                )
            )
        else:
            rows.append((result.engine.name, "", "none", "", "", ""))
    heads = ("engine", "events counted", "events/s", "CPU-seconds a million", "peak MiB", "start to first record, s")
    return _table(f"Speed, {shape}: median (least-most)", heads, rows) if any(r.speeds for r in results) else ""


def _doubt(result: Result, shape: str) -> str:
    found = result.checks.get(shape)
    return "" if found is None or found.equal else " (outputs not equal)"


def _latencies(results: Sequence[Result]) -> str:
    rows = [
        (
            result.engine.name,
            f"{found['rate']:,}",
            f"{found['p50']:.3f}",
            f"{found['p99']:.3f}",
            f"{found['records']:,}",
            f"{found['sent_late_ms']:.0f}",
        )
        if (found := result.latency)
        else (result.engine.name, "", "none", "", "", "")
        for result in results
    ]
    heads = ("engine", "events/s", "p50, s", "p99, s", "records", "sender late at the end, ms")
    title = "Latency at a third of the top speed: event sent to record read as committed"
    return _table(title, heads, rows) if any(result.latency for result in results) else ""


def _recoveries(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        if found := result.recovery:
            median = found["median"]
            empty = f"{median['empty']:.1f}" if "empty" in median else "the state is on the disk"
            cells = (f"{found['users']:,}", f"{median['local']:.1f}", empty, f"{found['start_seconds']:.1f}")
        else:
            cells = ("", "none", "", "")
        rows.append((result.engine.name, *cells))
    heads = ("engine", "users", "local disk, s", "empty disk, s", "a start without state, s")
    title = "Recovery: start after SIGKILL to the records of the events sent meanwhile"
    return _table(title, heads, rows) if any(result.recovery for result in results) else ""
