"""The source schemas by name: what `schema` of a source, and `--schema` of a file, may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streams.schemas.flat_json import FlatJson
from streams.schemas.rees46 import Rees46
from streams.schemas.schema import Options, Schema


@dataclass(frozen=True, slots=True)
class Registered:
    """A schema of the registry."""

    make: Callable[[Options], Schema]  # ValueError where the options do not fit
    description: str  # for the reference
    own_names: bool = True  # False: the names of fields and types are settings of the source


SCHEMAS: dict[str, Registered] = {
    "shoal": Registered(FlatJson, "flat JSON with the fields below, one event a record", own_names=False),
    "rees46": Registered(Rees46, "the columns of the REES46 file as flat JSON, one event a record"),
}
DEFAULT = "shoal"
