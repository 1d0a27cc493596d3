"""`shoal similar`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.argument("user")
@click.option("-n", "count", type=click.IntRange(1, 1_000), default=10, show_default=True, help="Number of users.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.pass_obj
def similar(context: Context, user: str, count: int, as_json: bool) -> None:
    """Print the users most similar to USER, and what they share.

    Compares embeddings if an encoder was trained, else the features that segments are made of. Exit code
    10: no such user, or no model version yet.
    """
    from streams.errors import DataError
    from streams.kafka import changelog
    from streams.operations.look_alikes import similar as find
    from streams.services.model_feed import read_newest

    settings = context.settings()
    version = asyncio.run(read_newest(settings))
    if version is None:
        raise DataError("no model version yet: the learner has not seen enough rows")
    stored, _ = asyncio.run(changelog.read(settings))
    results = find(list(stored), list(stored.values()), version, user.encode(), count)
    if as_json:
        click.echo(json.dumps(results, indent=2, ensure_ascii=False))
        return
    for result in results:
        shared = (
            "; ".join(feature["words"] for feature in result["shared"])
            or "nothing that sets them apart from the average"
        )
        segment = "none" if result["segment"] is None else result["segment"]
        click.echo(f"{result['user']}  distance {result['distance']:.3f}  segment {segment}  {shared}")
