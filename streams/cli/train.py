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

    Runs as a separate process and needs torch: pip install 'shoal[embeddings]'. Trains when there are
    trainer.first_rows rows, then every trainer.every seconds, and earlier when it detects drift. Uses CUDA where
    available.

    Exit codes: 0 done or stopped, 2 settings or no torch, 4 broker, 5 topics, 6 trainer.datadir is in use,
    7 another trainer took over, 10 too few rows.
    """
    # OpenMP threads that wait must sleep instead of spin: a worker may run on the same machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from streams.trainer.process import run

    settings = context.settings(**{"trainer.promote": promote})
    run(
        settings,
        once=once,
        notify=_print_line,
        on_epoch=_print_epoch,
        on_training=lambda training: _print_training(training, as_json),
    )


def _print_line(line: str) -> None:
    click.echo(f"shoal: {line}", err=True)


def _print_epoch(epoch: Epoch) -> None:
    _print_line(
        f"{epoch.phase} {epoch.number}/{epoch.of}: error {epoch.held:.4f} on held-out rows, {epoch.seconds:.2f} s"
    )


def _print_training(training: dict[str, Any], as_json: bool) -> None:
    _print_line(
        f"candidate {training['encoder']}: error {training['error']:.4f} "
        f"(of the mean shopper {training['mean_error']:.4f}), "
        f"{training['rows']:,} rows on {training['device']}, {training['rows_per_second']:,.0f} rows/s, "
        f"{training['seconds']:.1f} s"
    )
    if (promotion := training.get("promotion")) is not None:
        _print_line(f"promotion: {promotion['why']}")
    if as_json:
        click.echo(json.dumps(training))
