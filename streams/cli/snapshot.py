"""`shoal snapshot`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streams.cli.times import AS_OF

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--as-of", type=AS_OF, help="RFC 3339 or epoch ms, not below any user's clock. Default: the latest.")
@click.pass_obj
def snapshot(context: Context, output: Path, as_of: int | None) -> None:
    """Every user's features and segment, rebuilt from the changelog topic, as parquet."""
    from streams import changelog, frame

    stored, _ = asyncio.run(changelog.read(context.settings()))
    count = frame.write(output, sorted(stored.items()), frame.latest(stored.values()) if as_of is None else as_of)
    click.echo(f"{count:,} users", err=True)
