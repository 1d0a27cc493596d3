"""Where settings come from: a TOML file, variables, files named by variables. What they mean is `settings`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr

from streams.errors import SettingsError

PREFIX = "SHOAL_"
TEXT = (str, SecretStr, Path)


def told(where: tuple[int | str, ...], kind: str, message: str) -> str:
    """One fault with its key; never with the value, which may be a secret."""
    key = ".".join(map(str, where))
    text = "unknown setting" if kind == "extra_forbidden" else message.removeprefix("Value error, ")
    return f"{key}: {text}" if key else text


def read(path: Path) -> dict[str, Any]:
    """A TOML file; SettingsError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # not UTF-8, not TOML
        raise SettingsError(f"{path}: {error}") from None


def variable(name: str, value: str, environ: Mapping[str, str], model: type[BaseModel]) -> tuple[list[str], Any]:
    """The key and the value of a variable: text where the setting is text, else what TOML makes of it."""
    if name.endswith("_FILE"):
        plain = name.removesuffix("_FILE")
        if plain in environ:
            raise SettingsError(f"{plain} and {name}: give one of them")
        try:
            value = Path(value).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise SettingsError(f"{name}: {error.strerror}") from None
        except ValueError:
            raise SettingsError(f"{name}: the file is not UTF-8 text") from None
        name = plain
    path = name.removeprefix(PREFIX).lower().split("__")
    if not _is_text(path, model):
        try:
            return path, tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            pass  # the check of the settings names the key
    return path, value


def _is_text(path: list[str], model: type[BaseModel]) -> bool:
    """Whether a setting is text (a secret, a path, a choice); what is unknown counts as text."""
    kind: Any = model
    for part in path:
        field = kind.model_fields.get(part) if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        if field is None:
            return True
        kind = field.annotation
    return kind in TEXT or get_origin(kind) is Literal or any(one in TEXT for one in get_args(kind))


def put(data: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value at its place among the sections."""
    for part in path[:-1]:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise SettingsError(f"{'.'.join(path)}: {part} is no section")
    data[path[-1]] = value
