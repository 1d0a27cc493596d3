"""`shoal segments list | history`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click

from streams.cli.times import AS_OF

if TYPE_CHECKING:
    from streams.cli import Context


@click.group()
def segments() -> None:
    """The current segments, and the history of all segments."""


@segments.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.pass_obj
def list_(context: Context, as_json: bool) -> None:
    """The segments of the newest version: users, and what sets them apart. Exit code 10: there is no version yet."""
    from streams.operations.segment_history import present

    found = present(context.settings())
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("segment", "super-segment", "users", "share of rows", "more or fewer than the average")
    for one in found:
        family = "" if one["super_segment"] is None else str(one["super_segment"])
        table.add_row(str(one["segment"]), family, f"{one['users']:,}", f"{one['share']:.1%}", one["description"])
    Console().print(table)


@segments.command()
@click.option("--segment", type=click.IntRange(min=0), help="Only events of this segment.")
@click.option("--since", type=AS_OF, help="Only events published since then; RFC 3339 or epoch ms.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.pass_obj
def history(context: Context, segment: int | None, since: int | None, as_json: bool) -> None:
    """What became of segments, oldest first: born, split, merged, retired, with shares of people. Ids are never used
    again."""
    from online_models.lineage import Lineage
    from streams.operations import segment_history as topic
    from streams.operations import version_summary

    found = asyncio.run(topic.history(context.settings(), segment, since))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for one in found:
        parents, heirs = (
            [(-1 if by["segment"] is None else by["segment"], by["share"]) for by in one[side]]
            for side in ("parents", "heirs")
        )
        said = version_summary.lineage(Lineage(one["event"], one["segment"], parents, heirs, one["people"]))
        click.echo(f"{one['time']}  version {one['model_version']}: {said} ({one['people']:,} of the panel)")
