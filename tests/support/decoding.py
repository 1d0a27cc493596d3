"""How tests that have no worker decode what a task is offered."""

from __future__ import annotations

from streams.inbox import Decode
from streams.records import RecordBatch
from streams.wire import shoal
from streams.wire.events import EventBatch


def decoder(schema: shoal.Schema) -> Decode:
    """A task's decoder of one schema for all sources. It looks at no clock, so no time is ahead of it."""

    def decode(batch: RecordBatch, source: int, key_before: int, now: int | None) -> EventBatch:
        return shoal.decode(batch, schema, source=source, key_before=key_before, now=None)

    return decode


decode = decoder(shoal.schema())
