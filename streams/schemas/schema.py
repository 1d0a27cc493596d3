"""What a source schema does: the protocol that all code outside `streams/schemas` knows schemas by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from streams.schemas.event_batch import EventBatch
from streams.schemas.record_batch import RecordBatch
from streams.schemas.routed_batch import RoutedBatch


@dataclass(frozen=True, slots=True)
class Options:
    """What the settings say about the records of a source."""

    fields: Mapping[str, str] = field(default_factory=dict)  # field names: theirs to shoal's
    types: Mapping[str, str] = field(default_factory=dict)  # event types: theirs to shoal's
    currency: str = "USD"
    ahead: int = 300_000  # ms that an event may lie ahead of the clocks
    max_bytes: int = 65_536  # of a value; a larger one is a reject


class Schema(Protocol):
    """Reads records of one form.

    A record becomes one event, several (the lines of an order) or none. Whatever it becomes:

    - It names one user, who is the user of all its events, and whose id is the record's key. A record that names nobody
      is a reject.
    - It is accepted or rejected whole: one bad line of an order makes the order a reject.
    - Its events are applied one after the other, in the order of the batch; no other record comes between them, and the
      user is not forgotten between them.
    - Offsets, rejects and counts of events go by records, so a record without events counts as one.
    - A repeated event is left out by its `event_id`. Events of one record need different ids, which the schema derives
      from the id of the record (as `order 7, line 2`). A row remembers the 16 newest ids of its user, so a repeated
      record of more events is not recognized.

    Equal records give equal events, however they are split into fetches: nothing is remembered between two calls.
    """

    def decode(self, batch: RecordBatch, *, source: int, key_before: int, now: int | None) -> EventBatch:
        """The events of a fetch.

        source: index of the source. key_before: merge key (ms) of the record before the fetch, -1 for none; the merge
        key of a record is the running maximum of the times of accepted events. now: wall clock, ms; None looks at no
        clock and no key (files). Nothing in a record raises an error: a bad record is a reject of the batch.
        """
        ...

    def route(self, batch: RecordBatch, *, key_before: int, now: int) -> RoutedBatch:
        """Users and merge keys of a fetch of a topic that is keyed otherwise, for repartitioning.

        Only what is needed for that is read: a record that `decode` rejects for another reason is routed. All events of
        a record go to the partition of its user.
        """
        ...

    def encode(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The record (a JSON object) that is decoded to one event, which is given in shoal's own fields.

        ValueError where there is none.
        """
        ...

    def file_record(self, row: dict[str, Any]) -> dict[str, Any]:
        """The record (a JSON object) that a row of a file in this schema stands for."""
        ...

    def own_events(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """The events of a record in shoal's own fields. Their values need not be valid."""
        ...


Decode = Callable[[RecordBatch, int, int, int | None], EventBatch]  # batch, source, key before, now (ms)


def decoder(schemas: Sequence[Schema], *, use_clock: bool = True) -> Decode:
    """A function that decodes the fetches of several sources, each in its schema.

    use_clock: whether times and keys are checked; files are read without.
    """

    def decode(batch: RecordBatch, source: int, key_before: int, now: int | None) -> EventBatch:
        return schemas[source].decode(batch, source=source, key_before=key_before, now=now if use_clock else None)

    return decode
