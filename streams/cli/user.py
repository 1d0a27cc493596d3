"""`shoal user`."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from streams.errors import DataError

if TYPE_CHECKING:
    from streams.cli import Context
    from streams.config.settings import Settings

WORKER_TIMEOUT = 3.0  # seconds


@click.command()
@click.argument("ident", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def user(context: Context, ident: str, as_json: bool) -> None:
    """Print one user's features, segment, last change and predictions.

    Asks the worker at web.host and web.port; reads the topics if it does not answer.

    Features are as of the later of the user's clock and the partition's watermark. Exit code 10: no such user.
    """
    settings = context.settings()
    description = _from_worker(settings, ident) or _from_topics(settings, ident)
    if description is None:
        raise DataError("no such user")
    if as_json:
        click.echo(json.dumps(description, indent=2, ensure_ascii=False))
    else:
        _print_user(description)


def _from_worker(settings: Settings, ident: str) -> dict[str, Any] | None:
    """The user as this machine's worker describes it; None where no worker answers or it does not have the user."""
    url = f"http://{settings.web.host}:{settings.web.port}/users/{urllib.parse.quote(ident, safe='')}"
    try:
        with urllib.request.urlopen(url, timeout=WORKER_TIMEOUT) as page:
            description: dict[str, Any] = json.load(page)
            return description
    except (OSError, ValueError):
        return None


def _from_topics(settings: Settings, ident: str) -> dict[str, Any] | None:
    from streams.kafka import changelog
    from streams.runtime.status import describe_user
    from streams.services.model_feed import read_newest

    row, progress = asyncio.run(changelog.read_user(settings, ident.encode()))
    if row is None:
        return None
    return describe_user(ident, row, progress.watermark, asyncio.run(read_newest(settings)))


def _print_user(description: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from state import windows
    from state.vocabulary import VOCABULARY

    console, change = Console(), description["last_change"]
    console.print(
        f"user {description['user']}, as of {description['as_of']}, last event {description['last_event']}",
        highlight=False,
    )
    if change is None:
        console.print("in no segment yet")
    else:
        previous = "none" if change["from"] is None else change["from"]
        console.print(
            f"segment {description['segment']} since {change['as_of']}: change {change['seq']}, from {previous}, cause "
            f"{change['cause']}, model version {change['model_version']}",
            highlight=False,
        )
    predictions = description.get("foretold", {})  # a worker of an earlier version sends none
    for line in _prediction_lines(predictions):
        console.print(line, highlight=False)
    table = Table("", *windows.WINDOWS, "ever")
    for measure in VOCABULARY.published:
        cells = [description["features"][f"{measure}_{window}"] for window in windows.WINDOWS]
        table.add_row(measure, *(f"{cell:,}" for cell in [*cells, description["totals"][measure]]))
    console.print(table)


def _prediction_lines(predictions: dict[str, Any]) -> Iterator[str]:
    if predictions.get("purchase_within_7d") is not None:
        yield f"buys within seven days: {predictions['purchase_within_7d']:.1%}"
    if predictions.get("cart_next_session") is not None:
        yield f"adds a cart in the next session, if there is one: {predictions['cart_next_session']:.1%}"
    if predictions.get("predicted_segment") is not None:
        probability = predictions["predicted_probability"]
        segment = predictions["predicted_segment"]
        yield f"a new user: in segment {segment} at the end of the first day, {probability:.1%}"
