"""`shoal models list | show | diff | promote | rollback | rebuild | export`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
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

    versions = asyncio.run(model_store.read_versions(context.settings()))
    summaries = [version_summary.summarize(version) for version in versions.values()]
    if as_json:
        click.echo(json.dumps(summaries, indent=2))
        return
    names = ("version", "parent", "learned to", "event time", "rows", "segments", "made on", "encoder", "lineage")
    rows = [
        (
            summary["version"],
            summary["parent"] or "",
            f"{summary['learned_to']:,}",
            summary["event_time"],
            f"{summary['rows']:,}",
            summary["segments"],
            summary["space"],
            summary["encoder"] or "",
            "; ".join(summary["lineage"]),
        )
        for summary in summaries
    ]
    _print_table(names, rows)


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

    version = model_store.select(asyncio.run(model_store.read_versions(context.settings())), number)
    segments = version_summary.segments(version)
    summary = version_summary.summarize(version) | {"quality": version.quality, "segments": segments}
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    del summary["segments"]  # they are printed as a table
    for name, value in summary.items():
        text = "; ".join(value) if isinstance(value, list) else value
        if name == "quality":
            text = ", ".join(f"{figure} {amount:.4g}" for figure, amount in version.quality.items())
        click.echo(f"{name.replace('_', ' ')}: {'none' if text in ('', None) else text}")
    rows = [
        (segment["segment"], segment["super_segment"], f"{segment['share']:.1%}", version_summary.words(segment))
        for segment in segments
    ]
    _print_table(("segment", "super-segment", "share", "more or fewer than the average"), rows)


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
    versions = asyncio.run(model_store.read_versions(settings))
    old_version, new_version = model_store.select(versions, old), model_store.select(versions, new)
    stored, _ = asyncio.run(changelog.read(settings))
    result = moves(sorted(stored.items()), feature_table.latest(stored.values()), old_version, new_version)
    if as_json:
        matrix = [{"from": a, "to": b, "users": count} for (a, b), count in sorted(result.users.items())]
        summary = {"old": old, "new": new, "users": result.count, "changed": result.changed, "moves": matrix}
        click.echo(json.dumps(summary, indent=2))
        return
    share = result.changed / result.count if result.count else 0.0
    click.echo(f"{result.changed:,} of {result.count:,} users ({share:.1%}) change segment from version {old} to {new}")
    rows = [
        (
            segment,
            *(f"{result.users[segment, other]:,}" if result.users[segment, other] else "" for other in result.new),
        )
        for segment in result.old
    ]
    _print_table((f"{old} \\ {new}", *map(str, result.new)), rows)


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
    from streams.operations import promotion

    settings = context.settings()
    evaluation = asyncio.run(promotion.evaluate(settings, space, budget=budget, accept_churn=accept_churn))
    promoted = evaluation.verdict.promoted
    if as_json and (dry_run or not promoted):
        click.echo(json.dumps(evaluation.to_dict(), indent=2))
    elif not as_json:
        _print_evaluation(evaluation.to_dict())
    if not promoted:
        raise DataError(f"not promoted: {evaluation.verdict.why}")
    if not dry_run:
        _print_answer(promotion.promote(settings, evaluation, wait), as_json, evaluation.to_dict())


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
    from streams.operations import promotion

    settings = context.settings()
    data = asyncio.run(model_store.read_copies(settings, number))[-1]
    model_store.parse(data, f"model version {number}")
    _print_answer(promotion.rollback(settings, data, wait), as_json)


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

        def report(offset: int, end: int) -> None:
            bar.update(task, completed=offset, total=end)

        version, same = asyncio.run(run(settings, number, report))
    data = dumps(version)
    if output is not None:
        model_store.write_file(output, data)
    checksum = model_store.parse(data, f"model version {number}").checksum
    if as_json:
        click.echo(json.dumps({"version": number, "same": same, "checksum": checksum, "bytes": len(data)}))
    elif same:
        click.echo(f"version {number}: the same {len(data):,} bytes, checksum {checksum}")
    if not same:
        raise StateError(
            f"version {number} differs from the published one: other settings of [learner], another numpy, or another "
            "type of processor"
        )


@models.command()
@click.argument("number", metavar="N", type=NUMBER)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def export(context: Context, number: int, file: Path) -> None:
    """Write version N into FILE, as `--model` of other commands takes it. Exit code 10: there is no such version."""
    from streams.kafka import model_store

    data = asyncio.run(model_store.read_copies(context.settings(), number))[-1]
    model_store.parse(data, f"model version {number}")
    model_store.write_file(file, data)
    click.echo(f"version {number}: {len(data):,} bytes", err=True)


def _print_evaluation(evaluation: dict[str, Any]) -> None:
    """Print how a candidate predicts, how far its segments lie apart, and which users would change segment."""
    click.echo(
        f"{evaluation['candidate']} against {evaluation['champion']}, on {evaluation['rows']:,} rows of "
        f"{evaluation['users']:,} users"
    )
    prediction, baseline = evaluation["prediction"], evaluation["baseline"]
    rows = [] if not prediction else _comparison_rows(evaluation["champion"], prediction)
    rows += [] if not baseline else _comparison_rows("segments on the windows", baseline)
    if rows:
        names = ("against", "outcome", "loss of the shop's rate", "its loss", "the candidate's", "saved", "95%")
        _print_table(names, rows)
    if prediction:
        champion, candidate = prediction["separation"]
        click.echo(f"simplified silhouette: {champion:.3f}, the candidate's {candidate:.3f}")
    click.echo(f"{evaluation['churn']:.1%} of the panel would change segment")
    if evaluation["turned"] is not None:
        share = evaluation["turned"]
        click.echo(f"the new embedding, rotated onto the old one, leaves {share:.1%} of it unexplained")
    continued = zip(evaluation["new"], evaluation["continues"], strict=True)
    columns = [f"{new} (was {old if old >= 0 else 'none'})" for new, old in continued]
    lines = zip(evaluation["old"], evaluation["matrix"], strict=True)
    _print_table(("old \\ new", *columns), [(old, *counts) for old, counts in lines])


def _comparison_rows(name: str, comparison: dict[str, Any]) -> list[tuple[str, ...]]:
    """For each outcome the losses (of the shop's overall rate, of `name`, of the candidate) and the gain."""
    rows: list[tuple[str, ...]] = []
    for outcome, losses in comparison["losses"].items():
        gain = comparison["gains"][outcome]
        interval = f"{gain['low']:.1%} to {gain['high']:.1%}"
        rows.append((name, outcome, *(f"{loss:.4f}" for loss in losses), f"{gain['value']:.1%}", interval))
    return rows


def _print_answer(answer: dict[str, Any], as_json: bool, evaluation: dict[str, Any] | None = None) -> None:
    """Print the learner's answer to a request that it accepted."""
    if as_json:
        click.echo(json.dumps({"answer": answer} | ({"verdict": evaluation} if evaluation else {}), indent=2))
    else:
        click.echo(f"{answer['order']} accepted: {answer['why']} (version {answer['version']})")


def _print_table(names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*names)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)
