"""How tests that have no worker decode what a task is offered."""

from __future__ import annotations

from streams.processing.input_buffer import Decode
from streams.schemas import flat_json
from streams.schemas.event_batch import EventBatch
from streams.schemas.record_batch import RecordBatch


def decoder(schema: flat_json.Schema) -> Decode:
    """A task's decoder of one schema for all sources. It looks at no clock, so no time is ahead of it."""

    def decode(batch: RecordBatch, source: int, key_before: int, now: int | None) -> EventBatch:
        return flat_json.decode(batch, schema, source=source, key_before=key_before, now=None)

    return decode


decode = decoder(flat_json.schema())
