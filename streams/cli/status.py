"""`shoal status`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list with a member per partition.")
@click.pass_obj
def status(context: Context, as_json: bool) -> None:
    """Print owner, offsets, lag, watermark, model version and pass of each partition, and the source it waits for.

    Reads the topics and the workers' group, so no worker has to be reachable.
    """
    from streams.operations.overview import overview

    partitions = overview(context.settings())
    if as_json:
        click.echo(json.dumps(partitions, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("partition", "owner", "source", "offset", "end", "lag", "watermark", "held by", "users", "model")
    for part in partitions:
        model = f"{part['model_version']}{' (pass)' if part['pass_under_way'] else ''}"
        first = [str(part["partition"]), part["owner"] or "nobody"]
        last = [part["watermark"], part["holding"] or "", f"{part['users']:,}", model]
        for topic, source in part["sources"].items():
            table.add_row(*first, topic, *(f"{source[name]:,}" for name in ("offset", "end", "lag")), *last)
            first, last = ["", ""], ["", "", "", ""]
    Console().print(table)
    # a source is repartitioned as a whole, so each partition says the same of it
    first_sources = partitions[0]["sources"] if partitions else {}
    repartitioned = {topic: source["rekey"] for topic, source in first_sources.items() if "rekey" in source}
    if repartitioned:
        table = Table("repartitioned source", "from", "owner", "lag")
        for topic, status in repartitioned.items():
            table.add_row(topic, status["topic"], status["owner"] or "nobody", f"{status['lag']:,}")
        Console().print(table)
