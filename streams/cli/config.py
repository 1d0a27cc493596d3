"""`shoal config`: the settings in force, as TOML that shoal.toml could hold, or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from streams.cli import Context

MASK = "********"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def config(context: Context, as_json: bool) -> None:
    """Print the settings in force, from the file, SHOAL_* variables and options; secrets are masked.

    A setting section.key is SHOAL_SECTION__KEY in the environment; SHOAL_SECTION__KEY_FILE reads it from a file.
    """
    values = plain(context.settings())
    click.echo(json.dumps(values, indent=2, ensure_ascii=False) if as_json else toml(values))


def plain(model: BaseModel) -> dict[str, Any]:
    """A section as JSON types, by the names of the settings file; secrets are masked."""
    return {field.alias or name: _plain_value(getattr(model, name)) for name, field in type(model).model_fields.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return plain(value)
    if isinstance(value, tuple):
        return [_plain_value(member) for member in value]
    if isinstance(value, SecretStr):
        return MASK
    return value if isinstance(value, (str, int, float, dict, type(None))) else str(value)


def toml(values: dict[str, Any]) -> str:
    """Settings as TOML: first those without a section, then a table for each section and each source."""
    lines = _pairs(values)
    for name, value in values.items():
        if isinstance(value, dict):
            off = name == "alerts"  # a rule that is switched off is null, which TOML does not have
            lines += ["", f"[{name}]", *_pairs(value, inline=True, null_is_false=off)]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for table in value:
                lines += ["", f"[[{name}]]", *_pairs(table, inline=True)]
    return "\n".join(lines)


def _pairs(table: dict[str, Any], *, inline: bool = False, null_is_false: bool = False) -> list[str]:
    """The lines `key = value`. inline: also those whose value is a table or an array; else these are left out."""
    lines = []
    for key, value in table.items():
        if value is None:
            lines.append(f"{key} = false" if null_is_false else f"# {key} is not set")
        elif inline or not isinstance(value, (dict, list)):
            lines.append(f"{key} = {_literal(value)}")
    return lines


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        pairs = [f"{json.dumps(key, ensure_ascii=False)} = {_literal(member)}" for key, member in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False)
