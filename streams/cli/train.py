"""`shoal train`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from online_models.encoder.autoencoder import Epoch
    from streams.cli import Context


@click.command()
@click.option("--once", is_flag=True, help="Train once on the existing rows, and exit.")
@click.option("--promote/--no-promote", default=None, help="Evaluate each candidate, and promote a better one.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per training.")
@click.pass_obj
def train(context: Context, once: bool, promote: bool | None, as_json: bool) -> None:
    """Train the encoder of the embeddings on the newest training rows, and send it to the learner.

    A process of its own, which needs torch: pip install 'shoal[embeddings]'. Trains when trainer.first_rows are there,
    then every trainer.every seconds, and earlier when it detects drift. Uses CUDA where available.

    Exit codes: 0 done or stopped, 2 settings or no torch, 4 broker, 5 topics, 6 trainer.datadir is in use,
    7 another trainer took over, 10 too few rows.
    """
    # threads that wait for each other must not keep the processors busy: a worker may run beside
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from streams.trainer.process import run

    settings = context.settings(**{"trainer.promote": promote})
    run(
        settings,
        once=once,
        notify=_say,
        on_epoch=_step,
        on_training=lambda found: _done(found, as_json),
    )


def _say(line: str) -> None:
    click.echo(f"shoal: {line}", err=True)


def _step(epoch: Epoch) -> None:
    _say(f"{epoch.phase} {epoch.number}/{epoch.of}: error {epoch.held:.4f} on held-out rows, {epoch.seconds:.2f} s")


def _done(found: dict[str, Any], as_json: bool) -> None:
    _say(
        f"candidate {found['encoder']}: error {found['error']:.4f} (of the mean shopper {found['mean_error']:.4f}), "
        f"{found['rows']:,} rows on {found['device']}, {found['rows_per_second']:,.0f} rows/s, {found['seconds']:.1f} s"
    )
    if (promotion := found.get("promotion")) is not None:
        _say(f"promotion: {promotion['why']}")
    if as_json:
        click.echo(json.dumps(found))
