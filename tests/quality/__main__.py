"""`make quality`: planted kinds of shopper, shoal and the other online methods, one table.

    python -m tests.quality --seeds 6 --out FILE.json

Seeds from 101 on are for the table alone; those from 1 on (`--development`) are for choosing. It ends with 1 where a
threshold is missed, and says which.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.quality import report, runs
from tests.quality.runs import Run

FIRST, DEVELOPMENT = 101, 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description=__doc__)
    parser.add_argument("--seeds", type=int, default=6, help="how many")
    parser.add_argument("--first", type=int, help=f"the first of them (default {FIRST})")
    parser.add_argument("--development", action="store_true", help=f"seeds from {DEVELOPMENT} on")
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--only", default="", help="contenders, with commas between")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="a JSON file for all figures")
    chosen = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    first = chosen.first or (DEVELOPMENT if chosen.development else FIRST)
    seeds = list(range(first, first + chosen.seeds))
    only = [name.strip() for name in chosen.only.split(",") if name.strip()]
    todo = runs.wanted(seeds, chosen.users, chosen.days, only)
    if not todo:
        parser.error(f"no such contender; there are: {', '.join(runs.names())}")
    console = Console(stderr=True)
    failed = carry_out(todo, chosen.jobs, console)
    found = {
        seed: {run.name: runs.figures(run) for run in todo if run.seed == seed and run not in failed} for seed in seeds
    }
    for seed in seeds:
        same = [
            run
            for run in todo
            if run.seed == seed
            and run.contender == runs.SHOAL
            and run not in failed
            and (not run.variant or run.variant.startswith("seed "))
        ]
        if len(same) > 1:
            found[seed][runs.SHOAL] |= runs.agreement(same)
    verdicts = report.verdicts(found)
    Console(width=None if sys.stdout.isatty() else 200).print(report.table(found), report.judgement(verdicts))
    if chosen.out:
        whole = {
            "seeds": found,
            "verdicts": [verdict._asdict() for verdict in verdicts],
            "users": chosen.users,
            "days": chosen.days,
        }
        chosen.out.write_text(json.dumps(whole, indent=1, default=float))
    return 1 if failed or any(not verdict.kept for verdict in verdicts) else 0


def carry_out(todo: Iterable[Run], jobs: int, console: Console) -> list[Run]:
    """Do the runs, each in a process of its own; those that failed."""
    todo = list(todo)
    # threads of their own in each process would wait for each other
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    failed: list[Run] = []
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with (
        Progress(*columns, console=console) as progress,
        ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        given = {pool.submit(runs.prepare, run): run for run in runs.first_of_each_stream(todo)}
        task = progress.add_task("streams through the core", total=len(given))
        _watch(given, progress, task, [])
        work = {pool.submit(runs.carry_out, run): run for run in todo}
        task = progress.add_task("contenders", total=len(work))
        _watch(work, progress, task, failed)
    for run in failed:
        console.print(f"[red]seed {run.seed}, {run.name}: failed[/red]")
    return failed


def _watch(work: dict[Any, Run], progress: Progress, task: Any, failed: list[Run]) -> None:
    for future in as_completed(work):
        run = work[future]
        if future.exception() is not None:
            progress.console.print(f"seed {run.seed}, {run.name}: {future.exception()!r}")
            failed.append(run)
        progress.update(task, advance=1, description=f"seed {run.seed}, {run.name}")


if __name__ == "__main__":
    sys.exit(main())
