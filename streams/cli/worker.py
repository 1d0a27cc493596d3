"""`shoal worker`."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from streams.cli import Context


@click.command()
@click.option("--accept-rejects", is_flag=True, help="Continue although most records in a row are rejects.")
@click.option("--accept-loss", is_flag=True, help="Continue although records are lost; print which.")
@click.pass_obj
def worker(context: Context, accept_rejects: bool, accept_loss: bool) -> None:
    """Run a worker. It owns its share of the partitions until it is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the runner handles it there is nothing to close
    from streams.runtime.process import run

    run(context.settings(), accept_rejects=accept_rejects, accept_loss=accept_loss)
