"""`shoal models list | show | diff | promote | rollback | rebuild | export`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from online_models.version import Space
    from streams.cli import Context

NUMBER = click.IntRange(min=1)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
wait_option = click.option("--wait", default=60.0, show_default=True, help="Seconds to wait for the learner's answer.")


@click.group()
def models() -> None:
    """The versions of the model: what they are, what they change, which one is in force."""


@models.command("list")
@json_option
@click.pass_obj
def list_(context: Context, as_json: bool) -> None:
    """The versions that are kept, oldest first.

    Exit codes: 0 also where there is none yet, 4 broker, 5 no topic, 6 a version that cannot be read.
    """
    from streams.kafka import model_store
    from streams.operations import version_summary

    found = [version_summary.version(one) for one in asyncio.run(model_store.kept(context.settings())).values()]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    names = ("version", "parent", "learned to", "event time", "rows", "segments", "made on", "encoder", "what became")
    rows = [
        (
            one["version"],
            one["parent"] or "",
            f"{one['learned_to']:,}",
            one["event_time"],
            f"{one['rows']:,}",
            one["segments"],
            one["space"],
            one["encoder"] or "",
            "; ".join(one["lineage"]),
        )
        for one in found
    ]
    _table(names, rows)


@models.command()
@click.argument("number", metavar="[N]", type=NUMBER, required=False)
@json_option
@click.pass_obj
def show(context: Context, number: int | None, as_json: bool) -> None:
    """Version N (the newest without one): its segments, what sets them apart, its quality on held-out rows.

    A super-segment is a few segments that lie near each other; it has the id of its largest one.

    Exit code 10: there is no such version.
    """
    from streams.kafka import model_store
    from streams.operations import version_summary

    version = model_store.pick(asyncio.run(model_store.kept(context.settings())), number)
    found = version_summary.version(version) | {
        "quality": version.quality,
        "segments": version_summary.segments(version),
    }
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    segments = found.pop("segments")
    for name, value in found.items():
        shown = "; ".join(value) if isinstance(value, list) else value
        if name == "quality":
            shown = ", ".join(f"{what} {figure:.4g}" for what, figure in version.quality.items())
        click.echo(f"{name.replace('_', ' ')}: {'none' if shown in ('', None) else shown}")
    _table(
        ("segment", "super-segment", "share", "more or fewer than the average"),
        [(one["segment"], one["super_segment"], f"{one['share']:.1%}", version_summary.words(one)) for one in segments],
    )


@models.command()
@click.argument("old", metavar="A", type=NUMBER)
@click.argument("new", metavar="B", type=NUMBER)
@json_option
@click.pass_obj
def diff(context: Context, old: int, new: int, as_json: bool) -> None:
    """Who would change segment from version A to version B: old -> new, in users, from the changelog topic.

    Every user is judged by A, then by B as after a swap, as of the latest of all clocks. Exit code 10: there is no
    such version.
    """
    from streams.kafka import changelog, model_store
    from streams.offline import feature_table
    from streams.operations.segment_moves import moves

    settings = context.settings()
    there = asyncio.run(model_store.kept(settings))
    before, after = model_store.pick(there, old), model_store.pick(there, new)
    stored, _ = asyncio.run(changelog.read(settings))
    found = moves(sorted(stored.items()), feature_table.latest(stored.values()), before, after)
    if as_json:
        matrix = [{"from": a, "to": b, "users": number} for (a, b), number in sorted(found.users.items())]
        told = {"old": old, "new": new, "users": found.count, "changed": found.changed, "moves": matrix}
        click.echo(json.dumps(told, indent=2))
        return
    share = found.changed / found.count if found.count else 0.0
    click.echo(f"{found.changed:,} of {found.count:,} users ({share:.1%}) change segment from version {old} to {new}")
    rows = [(a, *(f"{found.users[a, b]:,}" if found.users[a, b] else "" for b in found.new)) for a in found.old]
    _table((f"{old} \\ {new}", *map(str, found.new)), rows)


@models.command()
@click.option(
    "--space",
    type=click.Choice(["embedding", "windows"]),
    help="What to make segments from. Default: the space not in use.",
)
@click.option("--accept-churn", is_flag=True, help="Promote even if more users change segment than --budget.")
@click.option(
    "--budget",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Largest share of users that may change segment.",
)
@click.option("--dry-run", is_flag=True, help="Evaluate only.")
@wait_option
@json_option
@click.pass_obj
def promote(
    context: Context, space: Space | None, accept_churn: bool, budget: float, dry_run: bool, wait: float, as_json: bool
) -> None:
    """Make segments from the candidate (the newest encoder's embedding), or from the window features again.

    It is evaluated first, on users that the models are not made from: it must predict purchases and carts better than
    the segments in force, its segments must lie no less apart, and few users may change segment. A tie goes to the
    window features. Exit code 10: refused (the reason is printed), or no answer in time.
    """
    from streams.errors import DataError
    from streams.operations.promotion import order, verdict

    settings = context.settings()
    judged = asyncio.run(verdict(settings, space, budget=budget, accept_churn=accept_churn))
    if as_json and (dry_run or not judged.verdict.promoted):
        click.echo(json.dumps(judged.told(), indent=2))
    elif not as_json:
        _judged(judged.told())
    if not judged.verdict.promoted:
        raise DataError(f"not promoted: {judged.verdict.why}")
    if not dry_run:
        _answered(order(settings, judged, wait), as_json, judged.told())


@models.command()
@click.argument("number", metavar="N", type=NUMBER)
@wait_option
@json_option
@click.pass_obj
def rollback(context: Context, number: int, wait: float, as_json: bool) -> None:
    """Put the segments of version N in force again, as a new version.

    Users move once more, with the cause "model". Exit code 10: there is no such version; refused, and why; no answer
    in time (the request stays in the topic and will be applied).
    """
    from streams.kafka import model_store
    from streams.operations.promotion import rollback as order

    settings = context.settings()
    data = asyncio.run(model_store.published(settings, number))[-1]
    model_store.parsed(data, f"model version {number}")
    _answered(order(settings, data, wait), as_json)


@models.command()
@click.option("--version", "number", type=NUMBER, required=True, help="Version to rebuild.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the rebuilt version to a file."
)
@json_option
@click.pass_obj
def rebuild(context: Context, number: int, output: Path | None, as_json: bool) -> None:
    """Learn a version once more from the log of training rows, and compare it with the one that was published.

    Exit codes: 0 the bytes are the same, 6 they differ, 10 the rows are gone or there is no such version.
    """
    from rich.console import Console
    from rich.progress import Progress

    from online_models.version import dumps
    from streams.errors import StateError
    from streams.kafka import model_store
    from streams.operations.rebuild import rebuild as run

    settings = context.settings()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("learning")
        version, same = asyncio.run(
            run(settings, number, lambda done, size: bar.update(task, completed=done, total=size))
        )
    data = dumps(version)
    if output is not None:
        model_store.write(output, data)
    told = {"version": number, "same": same, "checksum": model_store.parsed(data, "it").checksum, "bytes": len(data)}
    if as_json:
        click.echo(json.dumps(told))
    elif same:
        click.echo(f"version {number}: the same {len(data):,} bytes, checksum {told['checksum']}")
    if not same:
        raise StateError(
            f"version {number} comes out otherwise than it was published: other settings of [learner], another numpy "
            "or another type of processor"
        )


@models.command()
@click.argument("number", metavar="N", type=NUMBER)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def export(context: Context, number: int, file: Path) -> None:
    """Write version N into FILE, as `--model` of other commands takes it. Exit code 10: there is no such version."""
    from streams.kafka import model_store

    data = asyncio.run(model_store.published(context.settings(), number))[-1]
    model_store.parsed(data, f"model version {number}")
    model_store.write(file, data)
    click.echo(f"version {number}: {len(data):,} bytes", err=True)


def _judged(told: dict[str, Any]) -> None:
    """A verdict on the screen."""
    click.echo(f"{told['candidate']} against {told['champion']}, on {told['rows']:,} rows of {told['users']:,} users")
    shown = [(told["champion"], told["prediction"]), ("segments on the windows", told["baseline"])]
    lines = [
        (name, what, *(f"{value:.4f}" for value in losses), *_interval(against["gains"][what]))
        for name, against in shown
        if against
        for what, losses in against["losses"].items()
    ]
    if lines:
        _table(("against", "outcome", "loss of the shop's rate", "its loss", "the candidate's", "saved", "95%"), lines)
    if told["prediction"]:
        apart = told["prediction"]["separation"]
        click.echo(f"simplified silhouette: {apart[0]:.3f}, the candidate's {apart[1]:.3f}")
    click.echo(f"{told['churn']:.1%} of the panel would change segment")
    if told["turned"] is not None:
        click.echo(f"the new embedding, rotated onto the old one, leaves {told['turned']:.1%} of it unexplained")
    _table(
        (
            "old \\ new",
            *(
                f"{new} (was {was if was >= 0 else 'none'})"
                for new, was in zip(told["new"], told["continues"], strict=True)
            ),
        ),
        [(old, *line) for old, line in zip(told["old"], told["matrix"], strict=True)],
    )


def _interval(found: dict[str, float]) -> tuple[str, str]:
    return f"{found['value']:.1%}", f"{found['low']:.1%} to {found['high']:.1%}"


def _answered(answer: dict[str, Any], as_json: bool, more: dict[str, Any] | None = None) -> None:
    """What the learner has made of an order."""
    if as_json:
        click.echo(json.dumps({"answer": answer} | ({"verdict": more} if more else {}), indent=2))
    else:
        click.echo(f"{answer['order']} accepted: {answer['why']} (version {answer['version']})")


def _table(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*names)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
