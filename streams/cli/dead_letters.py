"""`shoal dead-letters`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.cli.times import AS_OF

if TYPE_CHECKING:
    from streams.cli import Context
    from streams.config.settings import Settings
    from streams.kafka.dead_letter_records import DeadLetter

LIMIT = 50
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--reason", "reasons", multiple=True, help="Only this reason; can be repeated.")
@click.option("--since", type=AS_OF, help="Only records rejected since then; RFC 3339 or epoch ms.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=LIMIT, show_default=True, help="Most records to list, the newest."
)
@click.option("--values", is_flag=True, help="List keys and values too. They hold user ids.")
@click.option("--count", "counting", is_flag=True, help="Print counts by reason and source.")
@click.option("--export", "out", type=FILE, help="Write all records that were not sent back to a new file.")
@click.option("--send-back", "repaired", type=FILE, help="Send the events of a repaired export to their sources.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.pass_obj
def dead_letters(
    context: Context,
    reasons: tuple[str, ...],
    since: int | None,
    limit: int,
    values: bool,
    counting: bool,
    out: Path | None,
    repaired: Path | None,
    as_json: bool,
) -> None:
    """List dead letters, newest last; count them; export them for repair; send repaired ones back.

    An export has one JSON object per line: "letter" identifies the dead letter, "value" is the record's text
    ("value_base64" if it is not UTF-8). Repair "value", as text or as an object, and delete the lines that are not to
    be sent:

    \b
      shoal dead-letters --reason currency --export bad.jsonl
      jq -c '.value |= (fromjson | .currency = "USD")' bad.jsonl > good.jsonl
      shoal dead-letters --send-back good.jsonl

    Each line is decoded as the worker decodes it. If a line would be rejected again, its number and reason are printed
    and nothing is sent. The key becomes the event's user id. A dead letter is sent back once, whatever its event_id:
    lines that were sent before are skipped.

    Exit codes: 0 done, 2 usage or settings, 4 broker, 5 no such topic, 7 a transaction failed, 10 a file or a line.
    """
    from streams.kafka import dead_letter_topic as topic
    from streams.kafka.dead_letter_records import count_by_reason, wanted_letters

    if sum(map(bool, (counting, out, repaired))) > 1:
        raise click.UsageError("--count, --export and --send-back exclude each other")
    if repaired and (reasons or since is not None):
        raise click.UsageError("--send-back sends the lines of the file: --reason and --since belong to --export")
    settings = context.settings()
    if repaired:
        sent, before = asyncio.run(topic.send_back(settings, repaired))
        known = f", {before:,} left out: sent back before" if before else ""
        click.echo(f"{sent:,} sent{known}", err=True)
    elif out:
        written = asyncio.run(topic.export(settings, out, wanted_letters(reasons, since), since=since))
        click.echo(f"{written:,} written", err=True)
    elif counting:
        wanted = wanted_letters(reasons, since)
        counts = count_by_reason(*asyncio.run(topic.gather(settings, wanted, since=since, bodies=False)))
        _show(counts, ("reason", "topic", "count", "sent_back"), as_json)
    else:
        _list(settings, reasons, since, limit, values, as_json)


def _list(
    settings: Settings, reasons: tuple[str, ...], since: int | None, limit: int, values: bool, as_json: bool
) -> None:
    from streams.kafka import dead_letter_topic as topic
    from streams.kafka.dead_letter_records import wanted_letters

    wanted = wanted_letters(reasons, since)
    letters, sent_back = asyncio.run(topic.gather(settings, wanted, since=since, limit=limit, bodies=values))
    columns = ["letter", "time", "reason", "detail", "topic", "partition", "offset", "sent_back"]
    _show(
        [_row(letter, values=values, sent_back=letter.ident in sent_back, as_json=as_json) for letter in letters],
        (*columns, "key", "value") if values else columns,
        as_json,
    )


def _row(letter: DeadLetter, *, values: bool, sent_back: bool, as_json: bool) -> dict[str, Any]:
    import numpy as np

    from streams.kafka.dead_letter_records import printable, to_json
    from streams.processing.outputs.cloudevents import rfc3339

    row = to_json(letter) | {"time": rfc3339(np.array([letter.time]))[0], "sent_back": sent_back}
    if not values:
        del row["key"], row["value"]
    elif not as_json:
        row |= {"key": printable(letter.key), "value": printable(letter.value)}
    return row


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...] | list[str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from streams.kafka.dead_letter_records import printable

    table = Table(*(name.replace("_", " ") for name in columns))
    for row in rows:
        cells = [row[name] for name in columns]
        texts = ("yes" if cell is True else "" if cell is False else str(cell) for cell in cells)
        table.add_row(*(Text(printable(text.encode())) for text in texts))
    Console().print(table)
