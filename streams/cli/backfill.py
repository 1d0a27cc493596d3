"""`shoal backfill`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streams.cli.times import AS_OF
from streams.schemas.registry import DEFAULT, SCHEMAS

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--schema", type=click.Choice(list(SCHEMAS)), default=DEFAULT, show_default=True, help="Schema of FILE.")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Parquet file.")
@click.option("--as-of", type=AS_OF, help="RFC 3339 or epoch ms; later events are ignored. Default: the latest event.")
@click.option(
    "--model", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File of `shoal models export`."
)
@click.pass_obj
def backfill(context: Context, file: Path, schema: str, output: Path, as_of: int | None, model: Path | None) -> None:
    """Compute every user's features from FILE with the worker's code, without Kafka, and write them as Parquet."""
    from online_models.version import loads
    from state.stores.scratch import ScratchRows
    from streams.errors import DataError
    from streams.offline import feature_table, parquet
    from streams.offline.backfill import backfill as run
    from streams.offline.scratch_folder import scratch_folder
    from streams.services.model_feed import check_features

    version = None
    if model is not None:
        try:
            version = loads(model.read_bytes())
            check_features(version)
        except ValueError as error:
            raise DataError(f"{model}: {error}") from None
    settings = context.settings()
    with scratch_folder(output) as folder, closing(ScratchRows(folder / "rows")) as rows:
        rejects = run(settings, file, schema, rows, folder, as_of)
        now = feature_table.latest(row for _, row in rows.items()) if as_of is None else as_of
        count = parquet.write(output, rows.items(), now, version, judge=True)
    click.echo(f"{count:,} users, {rejects:,} rejects", err=True)
