"""shoal's own schema, flat JSON, and schemas that differ from it by names only: one event a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple

from streams.schemas import event_columns, routed_batch
from streams.schemas.event_batch import EventBatch, Reasons
from streams.schemas.event_fields import FIELDS
from streams.schemas.field_names import Names
from streams.schemas.json_records import parse
from streams.schemas.record_batch import RecordBatch
from streams.schemas.routed_batch import RoutedBatch
from streams.schemas.scan.events import Scan, scan, scan_tables
from streams.schemas.schema import Options


class FlatJson:
    """A schema whose fields and types may have names of their own."""

    def __init__(self, options: Options | None = None) -> None:
        """ValueError where the names do not fit: an unknown field or type of shoal's, two names for one, an
        empty name."""
        self._options = options = options or Options()
        theirs = {ours: name for name, ours in options.fields.items()}
        if unknown := set(theirs) - set(FIELDS):
            raise ValueError(f"no such field: {', '.join(sorted(unknown))}")
        if "" in options.fields:
            raise ValueError("the source's name of a field is empty")
        self._types = event_columns.type_codes(options.types)
        self._scan_tables = scan_tables(theirs, self._types, options.currency)
        self._decode_event = _json_decoder(tuple(FIELDS), theirs)
        self._decode_route = _json_decoder(("user_id", "event_time"), theirs)
        self._names = Names(options.fields, options.types)

    def decode(self, batch: RecordBatch, *, source: int, key_before: int, now: int | None) -> EventBatch:
        """One event a record. Plain records are scanned, which is fast; all others are parsed."""
        scanned = self.scan_events(batch, now=now)
        others = np.flatnonzero(~scanned.accepted)
        if len(others):
            chosen = batch.select(others.tolist())
            scanned.put(others, self.parse_events(chosen, source=source, key_before=key_before, now=now))
        return scanned.to_events(batch, source=source, key_before=key_before)

    def scan_events(self, batch: RecordBatch, *, now: int | None) -> Scan:
        """The events of the plain records."""
        options = self._options
        return scan(batch, self._scan_tables, ahead=options.ahead, max_bytes=options.max_bytes, now=now)

    def parse_events(self, batch: RecordBatch, *, source: int, key_before: int, now: int | None) -> EventBatch:
        """The same events as of decode(), without a scan: this is what a record means."""
        options, reasons = self._options, Reasons()
        events = parse(batch.values, self._decode_event, options.max_bytes, reasons)
        values = zip(*map(astuple, events), strict=True) if events else [()] * len(FIELDS)
        fields = dict(zip(FIELDS, values, strict=True))
        return event_columns.build(
            batch,
            fields["user_id"],
            fields,
            None,
            reasons,
            types=self._types,
            currency=options.currency,
            ahead=options.ahead,
            source=source,
            key_before=key_before,
            now=now,
        )

    def route(self, batch: RecordBatch, *, key_before: int, now: int) -> RoutedBatch:
        """Users and merge keys; the other fields are not looked at."""
        options, reasons = self._options, Reasons()
        events = parse(batch.values, self._decode_route, options.max_bytes, reasons)
        return routed_batch.build(
            batch,
            [event.user_id for event in events],
            [event.event_time for event in events],
            reasons,
            ahead=options.ahead,
            max_bytes=options.max_bytes,
            key_before=key_before,
            now=now,
        )

    def encode(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The event in the names of the source. ValueError where its type has no name that is read as it."""
        return self._names.to_source(event)

    def file_record(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as it is."""
        return row

    def own_events(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """The record in shoal's names."""
        return [self._names.to_own(record)]


def _json_decoder(names: tuple[str, ...], theirs: Mapping[str, str]) -> Callable[[bytes], Any]:
    """A decoder of some fields of FIELDS. theirs: the source's name of a field, where it differs."""
    rename = {ours: name for ours, name in theirs.items() if ours in names}
    fields = [(name, FIELDS[name], None) for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("Event", fields, rename=rename or None, gc=False)).decode
