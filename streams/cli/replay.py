"""`shoal replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams.offline.event_files import count_events, read_events
from streams.offline.replay import replay as send
from streams.offline.replay import source_encoder
from streams.schemas.registry import DEFAULT, SCHEMAS

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--schema", type=click.Choice(list(SCHEMAS)), default=DEFAULT, show_default=True, help="Schema of FILE.")
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), help="Seconds of event time per second of wall time."
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events per second.")
@click.option("--as-fast-as-possible", is_flag=True, help="Without a pause; the default.")
@click.option("--allow-jumps", is_flag=True, help="Continue if event time jumps ahead by more than a day.")
@click.pass_obj
def replay(
    context: Context,
    file: Path,
    schema: str,
    speed: float | None,
    rate: float | None,
    as_fast_as_possible: bool,
    allow_jumps: bool,
) -> None:
    """Send the events of FILE (CSV or JSON lines, plain or .gz) to the source topics, under their field names."""
    if sum(map(bool, (speed, rate, as_fast_as_possible))) > 1:
        raise click.UsageError("--speed, --rate and --as-fast-as-possible exclude each other")
    settings = context.settings()
    console = Console(stderr=True)
    total = count_events(file, schema)
    with Progress(
        TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task("replay", total=total)
        sent = send(
            settings,
            read_events(file, schema, source_encoder(settings)),
            speed=speed,
            rate=rate,
            allow_jumps=allow_jumps,
            progress=lambda done: bar.update(task, completed=done),
        )
    console.print(f"{sent:,} events sent")
