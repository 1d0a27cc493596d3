"""`shoal demo`."""

from pathlib import Path

import click


@click.command()
@click.option("--exit", "leave", is_flag=True, help="End after the replay instead of serving on.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object on stdout.")
@click.option("--seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="Length of the replay.")
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/demo"), show_default=True)
@click.pass_obj
def demo(context: "object", leave: bool, as_json: bool, seconds: float, home: Path) -> None:
    """The main job on an embedded Kafka and bundled real traffic."""
    from streams.demo import run

    run(home, seconds=seconds, leave=leave, as_json=as_json)
