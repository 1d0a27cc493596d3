"""`python -m tests.bench.offline`: memory and time of `shoal snapshot` and `shoal backfill` with many users.

The snapshot reads a changelog that holds two versions of each row (as tests/bench/recovery.py writes it), the backfill
a file of JSON lines in which each user has two events. Both run as commands of their own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import click
from rich.table import Table

from streams.embedded_kafka.broker import Broker
from tests.bench import traffic, worker
from tests.bench.measure import ROOT, fresh, memory_mib, progress, table_console, write
from tests.bench.recovery import fill
from tests.processes import SHOAL

EVENTS = 2  # of a user, in the file
END = 1_750_000_000_000  # ms, of event time
SEED = 7


@click.command()
@click.option("--users", type=click.IntRange(min=1_000), default=1_000_000, show_default=True)
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench-offline"), show_default=True)
@click.option("--keep", is_flag=True, help="Leave topics and files in place; the next run with --keep reads them.")
@click.option("--only", type=click.Choice(["snapshot", "backfill"]), help="One of the two.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(users: int, home: Path, keep: bool, only: str | None, out: Path | None) -> None:
    """Peak memory, seconds and size of the output of a snapshot and of a backfill."""
    home = home.resolve()
    if not keep:
        fresh(home)
    home.mkdir(parents=True, exist_ok=True)
    found = {}
    if only != "backfill":
        found["snapshot"] = snapshot(home, users)
    if only != "snapshot":
        found["backfill"] = backfill(home, users)
    table = Table("", "peak MiB", "seconds", "output, MiB", "SHA-256", title=f"{users:,} users")
    for what, figures in found.items():
        numbers = (f"{figures[name]:,.0f}" for name in ("peak_mib", "seconds", "output_mib"))
        table.add_row(what, *numbers, str(figures["sha256"])[:16])
    table_console().print(table)
    write(out, {"users": users, **found})
    if not keep:
        shutil.rmtree(home, ignore_errors=True)


def snapshot(home: Path, users: int) -> dict[str, float | str]:
    done = home / f"changelog-of-{users}"
    with Broker.running(home) as broker, progress() as bar:
        settings = worker.of_its_own(broker.bootstrap, "many", "offline")
        if not done.exists():
            sent = bar.add_task("rows written", total=2 * users)
            asyncio.run(fill(settings, users, lambda count: bar.advance(sent, count)))
            done.touch()
        chosen = settings.model_dump(mode="json", exclude_unset=True)
        return measured(["snapshot"], dict(worker.variables(chosen)), home / "snapshot.parquet")


def backfill(home: Path, users: int) -> dict[str, float | str]:
    file = home / f"events-of-{users}.jsonl"
    if not file.exists():
        made = traffic.make("scattered", EVENTS * users, users, end=END, seed=SEED)
        with file.open("wb") as lines:
            for records in traffic.chunks(made):
                lines.writelines(value + b"\n" for value in records.values)
    return measured(["backfill", str(file)], {}, home / "backfill.parquet")


def measured(command: list[str], variables: dict[str, str], output: Path) -> dict[str, float | str]:
    """Run a command that writes an output file; RuntimeError where it fails."""
    output.unlink(missing_ok=True)
    names = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
    started, peak = time.monotonic(), 0.0
    with subprocess.Popen([*SHOAL, *command, "-o", str(output)], env=names | variables, cwd=ROOT) as process:
        while process.poll() is None:
            try:
                peak = max(peak, memory_mib(process.pid))
            except (OSError, ValueError):  # it ends
                continue
            time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"shoal {command[0]} ended with exit code {process.returncode}")
    return {
        "peak_mib": peak,
        "seconds": time.monotonic() - started,
        "output_mib": output.stat().st_size / (1 << 20),
        "sha256": hashlib.sha256(output.read_bytes()).hexdigest(),
    }


if __name__ == "__main__":
    main()
