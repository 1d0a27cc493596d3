"""`shoal advance`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from streams.cli.times import AS_OF

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.argument("to", metavar="TIME", type=AS_OF)
@click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for the receipts.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipts as one JSON list.")
@click.pass_obj
def advance(context: Context, to: int, wait: float, as_json: bool) -> None:
    """Move the watermark of every partition to TIME (RFC 3339 or epoch milliseconds), for demos and tests.

    Events leave the windows that they have outlived by then, as if that much time had passed. Events that arrive
    afterwards and are older than TIME are late. This cannot be undone. Exit code 10: no receipts in time.
    """
    from streams.kafka.requests import advance as send
    from streams.kafka.topics import ensure

    settings = context.settings()
    ensure(settings, create=False)
    receipts = send(settings, to, wait)
    if as_json:
        click.echo(json.dumps(receipts))
    else:
        for receipt in receipts:
            click.echo(f"partition {receipt['partition']}: {receipt['result']}")
