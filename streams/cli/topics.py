"""`shoal topics`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from streams.kafka.topics import ensure

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.option("--check", is_flag=True, help="Create nothing; fail if a topic is missing or differs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.pass_obj
def topics(context: Context, check: bool, as_json: bool) -> None:
    """Create the topics, or check the ones that exist.

    Exit codes: 0 all topics match the settings, 2 settings, 4 no broker, 5 a topic is missing or differs.
    """
    checked = ensure(context.settings(), create=not check, strict=check)
    if as_json:
        summary = [
            {"topic": spec.name, "partitions": spec.partitions, "config": spec.config, "state": state}
            for spec, state in checked
        ]
        click.echo(json.dumps(summary, indent=2))
        return
    table = Table("topic", "partitions", "cleanup", "state")
    for spec, state in checked:
        table.add_row(spec.name, str(spec.partitions), spec.config["cleanup.policy"], state)
    Console().print(table)
