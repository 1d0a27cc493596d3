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

ASK_SECONDS = 3.0


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
    found = _asked(settings, ident) or _read(settings, ident)
    if found is None:
        raise DataError("no such user")
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _show(found)


def _asked(settings: Settings, ident: str) -> dict[str, Any] | None:
    """What the worker of this machine says; None where none answers or it holds no such user."""
    where = f"http://{settings.web.host}:{settings.web.port}/users/{urllib.parse.quote(ident, safe='')}"
    try:
        with urllib.request.urlopen(where, timeout=ASK_SECONDS) as page:
            found: dict[str, Any] = json.load(page)
            return found
    except (OSError, ValueError):
        return None


def _read(settings: Settings, ident: str) -> dict[str, Any] | None:
    from streams.kafka import changelog
    from streams.runtime.status import describe_user
    from streams.services.model_feed import read_newest

    row, progress = asyncio.run(changelog.read_user(settings, ident.encode()))
    if row is None:
        return None
    return describe_user(ident, row, progress.watermark, asyncio.run(read_newest(settings)))


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from state import windows
    from state.vocabulary import VOCABULARY

    console, change = Console(), found["last_change"]
    console.print(f"user {found['user']}, as of {found['as_of']}, last event {found['last_event']}", highlight=False)
    if change is None:
        console.print("in no segment yet")
    else:
        was = "none" if change["from"] is None else change["from"]
        console.print(
            f"segment {found['segment']} since {change['as_of']}: change {change['seq']}, from {was}, cause "
            f"{change['cause']}, model version {change['model_version']}",
            highlight=False,
        )
    for line in _foretold(found.get("foretold", {})):  # a worker of an earlier version says nothing of it
        console.print(line, highlight=False)
    table = Table("", *windows.WINDOWS, "ever")
    for measure in VOCABULARY.published:
        cells = [found["features"][f"{measure}_{window}"] for window in windows.WINDOWS]
        table.add_row(measure, *(f"{cell:,}" for cell in [*cells, found["totals"][measure]]))
    console.print(table)


def _foretold(told: dict[str, Any]) -> Iterator[str]:
    if told.get("purchase_within_7d") is not None:
        yield f"buys within seven days: {told['purchase_within_7d']:.1%}"
    if told.get("cart_next_session") is not None:
        yield f"adds a cart in the next session, if there is one: {told['cart_next_session']:.1%}"
    if told.get("predicted_segment") is not None:
        chance = told["predicted_probability"]
        yield f"a new user: in segment {told['predicted_segment']} at the end of the first day, {chance:.1%}"
