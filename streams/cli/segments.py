"""`shoal segments list | history`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

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

    summaries = present(context.settings())
    if as_json:
        click.echo(json.dumps(summaries, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("segment", "super-segment", "users", "share of rows", "more or fewer than the average")
    for summary in summaries:
        super_segment = "" if summary["super_segment"] is None else str(summary["super_segment"])
        users, share = f"{summary['users']:,}", f"{summary['share']:.1%}"
        table.add_row(str(summary["segment"]), super_segment, users, share, summary["description"])
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
    from streams.operations import segment_history, version_summary

    events = asyncio.run(segment_history.history(context.settings(), segment, since))
    if as_json:
        click.echo(json.dumps(events, indent=2))
        return
    for event in events:
        parents, heirs = _shares(event["parents"]), _shares(event["heirs"])
        text = version_summary.describe_lineage(
            Lineage(event["event"], event["segment"], parents, heirs, event["people"])
        )
        click.echo(f"{event['time']}  version {event['model_version']}: {text} ({event['people']:,} of the panel)")


def _shares(relatives: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Segments and their shares as `Lineage` has them: -1 stands for no segment."""
    return [(-1 if relative["segment"] is None else relative["segment"], relative["share"]) for relative in relatives]
