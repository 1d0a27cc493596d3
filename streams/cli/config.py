"""`shoal config`."""

import click


@click.command()
@click.pass_obj
def config(context: "object") -> None:
    """The effective settings as JSON, secrets masked."""
    click.echo(context.settings().model_dump_json(indent=2, by_alias=True))  # type: ignore[attr-defined]
