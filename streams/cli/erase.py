"""`shoal erase`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.argument("ident", metavar="USER")
@click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for the receipt.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as one JSON object.")
@click.pass_obj
def erase(context: Context, ident: str, wait: float, as_json: bool) -> None:
    """Erase a user: the row, the segment, and what docs/how-to/erasure.md says of each topic.

    Waits for the receipt of the worker. Exit code 10: no receipt in time; the command stays in the topic and
    the next worker applies it.
    """
    from streams.kafka.requests import erase as send
    from streams.kafka.topics import ensure

    settings = context.settings()
    ensure(settings, create=False)
    receipt = send(settings, ident, wait)
    if as_json:
        click.echo(json.dumps(receipt))
    else:
        result = "erased" if receipt["result"] == "erased" else "there was no such user"
        click.echo(f"{result} (request {receipt['request_id']}, partition {receipt['partition']})")
