"""The way back from shoal's own names to those of a source: what a replay writes must be read as it was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streams.schemas.event_batch import OTHER, TYPES


class Names:
    """A source's names of fields and types: {theirs: ours}, as the settings have them."""

    def __init__(self, fields: Mapping[str, str], types: Mapping[str, str]) -> None:
        self._fields = {ours: theirs for theirs, ours in fields.items() if theirs != ours}
        self._types = dict(types)
        self._spelled = {ours: theirs for theirs, ours in types.items() if types.get(ours, ours) != ours}

    def spell(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """An event of shoal's own schema in these names. ValueError where its type has no name that is read as it."""
        taken = set(self._fields.values())  # a field beyond the schema may have such a name: ours is meant
        out = {name: value for name, value in event.items() if name not in taken or name in self._fields}
        for ours, theirs in self._fields.items():
            if ours in out:
                out[theirs] = out.pop(ours)
        if isinstance(kind := event.get("event_type"), str):
            spelled = self._spelled.get(kind, kind)
            if self._read(spelled) != (TYPES.index(kind) if kind in TYPES else OTHER):
                raise ValueError(f"the source reads the event type {kind!r} as another, and has no name for it")
            out[self._fields.get("event_type", "event_type")] = spelled
        return out

    def _read(self, theirs: str) -> int:
        ours = self._types.get(theirs, theirs)
        return TYPES.index(ours) if ours in TYPES else OTHER
