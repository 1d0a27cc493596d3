"""Reads settings from TOML files and environment variables; streams/config/settings.py says which settings exist."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr

from streams.errors import SettingsError

PREFIX = "SHOAL_"
FILE_SUFFIX = "_FILE"  # of a variable that names a file with the value
TEXT_TYPES = (str, SecretStr, Path)


def describe_error(location: tuple[int | str, ...], kind: str, message: str) -> str:
    """One validation error of pydantic as "key: message". It never contains the value, which may be a secret."""
    key = ".".join(map(str, location))
    text = "unknown setting" if kind == "extra_forbidden" else message.removeprefix("Value error, ")
    return f"{key}: {text}" if key else text


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file. SettingsError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # neither UTF-8 nor TOML
        raise SettingsError(f"{path}: {error}") from None


def parse_variable(name: str, text: str, environ: Mapping[str, str], model: type[BaseModel]) -> tuple[list[str], Any]:
    """The path of keys that a variable sets, and its value.

    The value is the text itself where the setting is text; else the text is parsed as a TOML value. model: the
    settings. SettingsError where a file cannot be read, or the value is given twice.
    """
    if name.endswith(FILE_SUFFIX):
        file, plain_name = text, name.removesuffix(FILE_SUFFIX)
        if plain_name in environ:
            raise SettingsError(f"{plain_name} and {name}: give one of them")
        text = _read_value_file(name, Path(file))
        name = plain_name
    key_path = name.removeprefix(PREFIX).lower().split("__")
    if not _is_text(key_path, model):
        try:
            return key_path, tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            pass  # the validation of the settings refuses the text and names the key
    return key_path, text


def _read_value_file(variable: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{variable}: {error.strerror}") from None
    except ValueError:
        raise SettingsError(f"{variable}: the file is not UTF-8 text") from None


def _is_text(key_path: list[str], model: type[BaseModel]) -> bool:
    """Whether a setting is text: a string, a secret, a path or a choice. An unknown setting counts as text."""
    annotation: Any = model
    for key in key_path:
        is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
        field = annotation.model_fields.get(key) if is_section else None
        if field is None:
            return True
        annotation = field.annotation
    if annotation in TEXT_TYPES or get_origin(annotation) is Literal:
        return True
    return any(member in TEXT_TYPES for member in get_args(annotation))  # as in `str | None`


def set_value(values: dict[str, Any], key_path: list[str], value: Any) -> None:
    """Set a value in nested sections, which are added where they are missing.

    SettingsError where a key on the path is not a section.
    """
    section = values
    for key in key_path[:-1]:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise SettingsError(f"{'.'.join(key_path)}: {key} is not a section")
    section[key_path[-1]] = value
