"""`shoal snapshot`."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streams.cli.times import AS_OF

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Parquet file.")
@click.option("--as-of", type=AS_OF, help="RFC 3339 or epoch ms, not below any user's clock. Default: the latest.")
@click.pass_obj
def snapshot(context: Context, output: Path, as_of: int | None) -> None:
    """Write every user's features and segment, read from the changelog topic, as Parquet.

    A model version adds, once it has learned them, the probabilities of a purchase within seven days and of a cart in
    the next session, the segment of a new user at the end of the first day, and, with an encoder, the embedding and
    its reconstruction error.
    """
    from state.stores.scratch import ScratchRows
    from streams.kafka import changelog
    from streams.offline import feature_table, parquet
    from streams.offline.scratch_folder import scratch_folder
    from streams.services.model_feed import read_newest

    settings = context.settings()
    version = asyncio.run(read_newest(settings))
    with scratch_folder(output) as folder, closing(ScratchRows(folder / "rows")) as rows:
        asyncio.run(changelog.copy_rows(settings, rows.put_many))
        now = feature_table.latest(row for _, row in rows.items()) if as_of is None else as_of
        count = parquet.write(output, rows.items(), now, version)
    click.echo(f"{count:,} users", err=True)
