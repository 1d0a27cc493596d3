"""`shoal broker start | stop | status`: the embedded Kafka."""

import json
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from streams.embedded_kafka import broker as embedded
from streams.embedded_kafka.launch import Launch

DIRECTORY = click.Path(file_okay=False, path_type=Path)
home_option = click.option(
    "--home",
    type=DIRECTORY,
    default=Path(".shoal"),
    show_default=True,
    help="Folder of this deployment; the broker's data lies in its subfolder kafka.",
)


@click.group()
def broker() -> None:
    """The embedded broker: a real single-node Apache Kafka on 127.0.0.1."""


@broker.command()
@home_option
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on.  [default: any free one]")
@click.option("--heap", default="512M", show_default=True, help="Java's largest heap.")
def start(home: Path, port: int | None, heap: str) -> None:
    """Start the broker and wait until it answers. Does nothing if it runs already.

    Prints the bootstrap servers on stdout. The first start fetches Kafka's jars (43 MB) into a cache.

    \b
    Environment:
      SHOAL_CACHE         folder of the cache, by default ~/.cache/shoal
      SHOAL_MAVEN_MIRROR  where to fetch from: URL or folder of a Maven repository
      KAFKA_HOME          an unpacked Apache Kafka 4 to use instead
      SHOAL_JAVA_HOME     a Java (17 or later) to use instead of the bundled one

    Exit codes: 0 it runs, 2 usage, 4 it cannot be obtained or started.
    """
    console = Console(stderr=True)
    with console.status("starting Apache Kafka") as spinner:
        launch = replace(Launch.from_environment(), heap=heap)
        running = embedded.start(home, port=port, launch=launch, notify=spinner.update)
    console.print(f"Apache Kafka {'started' if running.started else 'runs already'}, log in {running.log}")
    click.echo(running.bootstrap)


@broker.command()
@home_option
def stop(home: Path) -> None:
    """Stop the broker of this folder. Does nothing if none runs.

    Exit codes: 0 none runs now, 2 usage, 4 it does not stop.
    """
    console = Console(stderr=True)
    with console.status("stopping Apache Kafka"):
        stopped = embedded.stop(home)
    console.print("Apache Kafka stopped" if stopped else f"no broker runs in {home}")


@broker.command()
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def status(home: Path, as_json: bool) -> None:
    """Tell whether the broker of this folder runs, and where.

    Exit codes: 0 whether it runs or not, 2 usage.
    """
    running = embedded.status(home)
    if as_json:
        summary: dict[str, object] = {"running": running is not None}
        if running is not None:
            summary |= {
                "bootstrap_servers": running.bootstrap,
                "pid": running.pid,
                "log": str(running.log),
                "data": str(running.data),
            }
        click.echo(json.dumps(summary))
    elif running is None:
        Console().print(f"no broker runs in {home}")
    else:
        line = f"[bold]{running.bootstrap}[/bold]  pid {running.pid}  log {running.log}"
        Console().print(line, soft_wrap=True)
