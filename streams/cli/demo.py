"""`shoal demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.option("--exit", "leave", is_flag=True, help="Exit after the replay instead of serving.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="Seconds that the replay takes."
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=Path(".shoal/demo"),
    show_default=True,
    help="Folder of the demo.",
)
@click.option("--bootstrap-servers", help="Brokers of your own instead of the embedded one; topics get a new prefix.")
@click.pass_obj
def demo(
    context: Context, leave: bool, as_json: bool, seconds: float, home: Path, bootstrap_servers: str | None
) -> None:
    """The main job on an embedded Kafka and bundled real traffic."""
    from streams.offline.demo import run

    bootstrap = bootstrap_servers or context.overrides["kafka.bootstrap_servers"]
    run(
        home,
        seconds=seconds,
        leave=leave,
        as_json=as_json,
        bootstrap=bootstrap,
        prefix=context.overrides["prefix"],
        config=context.config,
    )
