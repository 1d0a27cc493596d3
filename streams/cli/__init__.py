"""The command line: `shoal`."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from typing import Any

import click

from streams.errors import ShoalError
from streams.settings import Settings, load

COMMANDS = ("broker", "config", "demo", "replay", "topics", "worker")


class Context:
    """What the options before a subcommand say; the settings are read when they are first asked for."""

    def __init__(self, config: Path | None, overrides: dict[str, Any]) -> None:
        self._config, self._overrides = config, overrides

    def settings(self, **more: Any) -> Settings:
        return load(self._config, **(self._overrides | more))


class Lazy(click.Group):
    """Subcommands are imported when they are called, so that help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"streams.cli.{name}"), name)
        return command


@click.group(
    cls=Lazy,
    epilog="Exit codes: 0 done, 2 usage or settings, 4 broker, 5 topics, 6 state refused, 7 transaction, 8 rejects, "
    "9 recovery, 10 data, 11 loss refused, 1 other. Shell completion: "
    'eval "$(_SHOAL_COMPLETE=bash_source shoal)".',
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings file; else SHOAL_CONFIG, else shoal.toml.")
@click.option("--bootstrap-servers", help="Kafka brokers, host:port[,host:port].")
@click.option("--prefix", help="Prefix of topics and transactional ids.")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, on stderr.")
@click.version_option(package_name="shoal")
@click.pass_context
def cli(
    ctx: click.Context, config: Path | None, bootstrap_servers: str | None, prefix: str | None, verbose: bool
) -> None:
    """Live customer segments from a clickstream."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO if verbose else logging.WARNING)
    ctx.obj = Context(config, {"kafka.bootstrap_servers": bootstrap_servers, "prefix": prefix})


def main() -> None:
    """Entry point: a known error is a line on stderr and its exit code."""
    try:
        cli(prog_name="shoal")
    except ShoalError as error:
        click.echo(f"shoal: error: {error}", err=True)
        sys.exit(error.exit_code)
