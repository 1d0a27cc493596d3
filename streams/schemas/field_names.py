"""Between shoal's own names and those of a source: what a replay writes must be read as it was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.schemas.event_batch import OTHER, TYPES


class Names:
    """A source's names of fields and types: {theirs: ours}, as the settings have them."""

    def __init__(self, fields: Mapping[str, str], types: Mapping[str, str]) -> None:
        self._fields = {ours: theirs for theirs, ours in fields.items() if theirs != ours}
        self._types = dict(types)
        self._own_fields = {theirs: ours for theirs, ours in fields.items() if theirs != ours}
        self._type_names = {ours: theirs for theirs, ours in types.items() if types.get(ours, ours) != ours}

    def to_source(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """An event of shoal's own schema in these names. ValueError where its type has no name that is read as it."""
        taken = set(self._fields.values())  # a field beyond the schema may have such a name: ours is meant
        record = {name: value for name, value in event.items() if name not in taken or name in self._fields}
        for ours, theirs in self._fields.items():
            if ours in record:
                record[theirs] = record.pop(ours)
        if isinstance(event_type := event.get("event_type"), str):
            source_type = self._type_names.get(event_type, event_type)
            if self._code(source_type) != (TYPES.index(event_type) if event_type in TYPES else OTHER):
                raise ValueError(f"the source reads the event type {event_type!r} as another, and has no name for it")
            record[self._fields.get("event_type", "event_type")] = source_type
        return record

    def to_own(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A record in these names as an event of shoal's own schema."""
        event = {self._own_fields.get(name, name): value for name, value in record.items()}
        if isinstance(source_type := event.get("event_type"), str):
            event["event_type"] = self._types.get(source_type, source_type)
        return event

    def _code(self, source_type: str) -> int:
        event_type = self._types.get(source_type, source_type)
        return TYPES.index(event_type) if event_type in TYPES else OTHER
