"""`shoal tune`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from online_models.evaluation.search import Trial
    from streams.cli import Context
    from streams.operations.tune import TuneResult


@click.command()
@click.option(
    "--rows",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Read the rows from a file that --save wrote.",
)
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows of the topic to a file.")
@click.option("--trials", type=click.IntRange(min=2), default=20, show_default=True, help="Most settings to try.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=600.0, show_default=True, help="Most seconds to search."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the random search.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def tune(
    context: Context, file: Path | None, save: Path | None, trials: int, seconds: float, seed: int, as_json: bool
) -> None:
    """Search for better settings of the learner on the existing training rows.

    Each candidate learns the log from its start. Each row is scored by the version that was in force when the row
    arrived: how well the rates of its segments predict purchases within seven days and carts in the next session, how
    far its segments lie apart, and how many users its new versions move. Candidates are ranked on the earlier rows; the
    best one is compared with the settings in force on the later rows. Prints lines for shoal.toml, and changes nothing.

    Exit codes: 0 done, also if nothing is better, 4 broker, 5 no topic, 10 too few rows or an unreadable file.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from streams.operations import tune as search

    settings = context.settings()
    rows = search.load(file) if file else asyncio.run(search.read_rows(settings))
    if save:
        search.save(save, rows)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        search_task = bar.add_task("settings tried", total=trials)
        trial_task = bar.add_task("rows of this one, %", total=100)

        def report(number: int, share: float) -> None:
            bar.update(search_task, completed=number)
            bar.update(trial_task, completed=int(100 * share))

        result = search.tune(settings, rows, trials=trials, seconds=seconds, seed=seed, report=report)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        _print_result(result, search.toml(result.best.changes))


def _print_result(result: TuneResult, settings_toml: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "",
        "settings",
        "segments",
        "saved of the shop's log-loss",
        "more than now, earlier rows",
        "later rows (95%)",
        "silhouette",
        "moved a day",
        title=f"{result.scored:,} of {result.rows:,} rows scored; ordered by the gain on the earlier rows",
    )
    for trial in sorted(result.trials, key=lambda trial: -trial.earlier.gain.value):
        table.add_row(*_trial_row(trial, trial is result.best))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
    if result.ended == "time":
        click.echo(f"the time limit was reached after {len(result.trials)} settings", err=True)
    click.echo(result.advice)
    if settings_toml:
        click.echo(f"\n{settings_toml}")


def _trial_row(trial: Trial, best: bool) -> tuple[str, ...]:
    settings = ", ".join(f"{name} {_format(value)}" for name, value in trial.changes.items())
    later = trial.later.gain
    return (
        "→" if best else "",
        settings or "in force",
        str(trial.segments),
        f"{trial.earlier.of_shop:.1%}",
        f"{trial.earlier.gain.value:+.2%}",
        f"{later.value:+.2%} ({later.low:+.2%} to {later.high:+.2%})",
        f"{trial.earlier.separation:.3f}",
        f"{trial.churn_day:.2%}",
    )


def _format(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
