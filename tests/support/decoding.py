"""How tests that have no worker decode what a task is offered."""

from __future__ import annotations

from streams.schemas import schema
from streams.schemas.flat_json import FlatJson
from streams.schemas.schema import Decode, Schema

SOURCES = 2  # at most, of a processor in tests


def decoder(chosen: Schema) -> Decode:
    """A decoder of one schema for all sources. It looks at no clock, so no time is ahead of it."""
    return schema.decoder([chosen] * SOURCES, use_clock=False)


decode = decoder(FlatJson())
