"""`shoal topics`."""

import click
from rich.console import Console
from rich.table import Table

from streams.topics import ensure


@click.command()
@click.option("--check", is_flag=True, help="Create nothing; fail where a topic is missing.")
@click.pass_obj
def topics(context: "object", check: bool) -> None:
    """Create the topics, or check those that are there."""
    table = Table("topic", "partitions", "cleanup", "state")
    for spec, state in ensure(context.settings(), create=not check):  # type: ignore[attr-defined]
        table.add_row(spec.name, str(spec.partitions), spec.config["cleanup.policy"], state)
    Console().print(table)
