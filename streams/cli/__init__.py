"""The command line `shoal`. It imports little at the top, so that `shoal --help` is fast; commands import the rest."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.errors import ShoalError
from streams.runtime import logs

if TYPE_CHECKING:
    from streams.config.settings import Settings

# A command is the function of its name (with _ for -) in the module of that name. A command without a module is not
# listed.
COMMANDS = {
    "demo": "Real traffic through a real Kafka, and the segments found in it.",
    "broker": "Start, stop or look at the embedded Kafka.",
    "topics": "Create the topics, or check the ones that exist.",
    "worker": "Run a worker: it takes its share of the partitions.",
    "replay": "Send the events of a file into the source topics.",
    "snapshot": "Every user's features and segment, from the changelog topic.",
    "backfill": "The same columns from a file, without Kafka.",
    "train": "Train the encoder of the embeddings, on a GPU where there is one.",
    "tune": "Search for better settings of the learner on the existing training rows.",
    "user": "Features, segment and last change of one user.",
    "similar": "The users most similar to a user, and what they share.",
    "status": "Offsets, lag, watermark and model version of each partition.",
    "erase": "Erase a user, and wait for the receipt.",
    "advance": "Move the watermark by hand, for demos and tests.",
    "dead-letters": "List rejected records, export them for repair, send repaired ones back.",
    "models": "Versions of the model: list, compare, promote, roll back, rebuild.",
    "segments": "The current segments, and the history of all segments.",
    "config": "The settings in force, secrets masked.",
}
EXIT_CODES = """\b
Exit codes:
   0  done
   1  any other error
   2  usage or settings
   4  the broker cannot be obtained, started or reached, or an ACL is missing
   5  topics are missing, or differ from the settings
   6  local state or a model version of another deployment, or unreadable
   7  a transaction failed or was fenced off
   8  most records in a row are rejects
   9  recovery from the changelog failed or took too long
  10  an input file or a request cannot be read or answered
  11  continuing would lose records or count some twice (--accept-loss continues)

\b
Shell completion:
  bash  eval "$(_SHOAL_COMPLETE=bash_source shoal)"
  zsh   eval "$(_SHOAL_COMPLETE=zsh_source shoal)"
  fish  _SHOAL_COMPLETE=fish_source shoal | source
"""


class Context:
    """The options that stand before a subcommand. The settings are read only by the commands that need them."""

    def __init__(self, config: Path | None, overrides: dict[str, Any], verbose: bool = False) -> None:
        self.config, self.overrides, self.verbose = config, overrides, verbose

    def settings(self, **more: Any) -> Settings:
        """The settings in force, `more` over all others. SettingsError names each invalid setting."""
        from streams.config.settings import load

        return load(self.config, **(self.overrides | more))


class Lazy(click.Group):
    """Imports a subcommand when it is called, and prints its error as one line, with the error's exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if find_spec(f"streams.cli.{name.replace('-', '_')}")]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        module_name = name.replace("-", "_")
        module = importlib.import_module(f"streams.cli.{module_name}")
        command: click.Command = getattr(module, module_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ShoalError as error:
            click.echo(f"shoal: error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=Lazy, epilog=EXIT_CODES)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Settings file. Default: SHOAL_CONFIG, else shoal.toml.",
)
@click.option("--bootstrap-servers", help="Kafka brokers, host:port[,host:port].")
@click.option("--prefix", help="Prefix of topics, groups and transactional ids.")
@click.option("-v", "--verbose", is_flag=True, help="Log to stderr.")
@click.version_option(package_name="shoal")
@click.pass_context
def cli(
    ctx: click.Context, config: Path | None, bootstrap_servers: str | None, prefix: str | None, verbose: bool
) -> None:
    """Live customer segments from a clickstream."""
    logs.configure(verbose=verbose)
    ctx.obj = Context(config, {"kafka.bootstrap_servers": bootstrap_servers, "prefix": prefix}, verbose)


def main() -> None:
    """Entry point."""
    cli(prog_name="shoal")
