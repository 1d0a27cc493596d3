"""Events as columns: what every schema decodes records to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.reject_reasons import REJECT_REASONS
from state.vocabulary import VOCABULARY
from streams.schemas.record_batch import RecordBatch

Ints = NDArray[np.int64]

TYPES, OTHER = VOCABULARY.event_types, VOCABULARY.other
REASONS = ("", *REJECT_REASONS)  # "": accepted
CODES = {reason: code for code, reason in enumerate(REASONS)}
Reasons = dict[int, tuple[str, str]]  # index of a record: why it is a reject, and the detail


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was not accepted, whole, and why; detail names fields, never values."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None

    @classmethod
    def of(cls, batch: RecordBatch, index: int, reason: str, detail: str) -> Reject:
        """The record at an index of a fetch."""
        return cls(
            reason,
            detail,
            batch.topic,
            batch.partition,
            batch.offsets[index],
            batch.timestamps[index],
            batch.keys[index],
            batch.values[index],
        )


@dataclass(frozen=True, slots=True)
class EventBatch:
    """n records in offset order (of one source) or in the applied order (merged), and their m events.

    A record has one event in most schemas, and none where it is a reject; see `schema.Schema`. Its length is n.
    """

    # of records: n entries
    users: list[bytes]  # UTF-8 id; empty where rejected
    offset: Ints
    source: NDArray[np.int8]
    key: Ints  # merge key, ms
    reason: NDArray[np.uint8]  # 0 accepted, else index into REASONS
    rejects: dict[int, Reject]  # by index
    # of events: m entries, in the order of the records
    record: Ints  # index of the record, not decreasing
    time: Ints  # epoch ms
    type: NDArray[np.int8]  # index into TYPES, OTHER for any other
    amount: Ints  # price times quantity in minor units, signed by quantity
    quantity: Ints
    event_id: NDArray[np.uint64]  # xxh3 of the text, 0 none
    session: NDArray[np.uint64]
    order: NDArray[np.uint64]  # of the transaction id
    category: NDArray[np.uint32]  # low half of xxh3, 0 none
    brand: NDArray[np.uint32]
    country: NDArray[np.uint32]
    region: NDArray[np.uint32]
    city: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.key)

    def select(self, index: Ints) -> EventBatch:
        """The records at index, in its order, each with its events."""
        counts = np.bincount(self.record, minlength=len(self))
        firsts = np.cumsum(counts) - counts  # the first event of each record
        counts = counts[index]
        record = np.repeat(np.arange(len(index)), counts)
        events = np.arange(len(record)) + np.repeat(firsts[index] - (np.cumsum(counts) - counts), counts)
        columns: dict[str, Any] = {name: getattr(self, name)[index] for name in RECORD_COLUMNS}
        columns |= {name: getattr(self, name)[events] for name in EVENT_COLUMNS}
        chosen = index.tolist()
        users = [self.users[i] for i in chosen]
        rejects = {j: self.rejects[i] for j, i in enumerate(chosen) if i in self.rejects} if self.rejects else {}
        return EventBatch(users=users, rejects=rejects, record=record, **columns)


RECORD_COLUMNS = ("offset", "source", "key", "reason")
EVENT_COLUMNS = (
    "time",
    "type",
    "amount",
    "quantity",
    "event_id",
    "session",
    "order",
    "category",
    "brand",
    "country",
    "region",
    "city",
)


def concatenate(batches: Sequence[EventBatch]) -> EventBatch:
    """One batch after the other; at least one."""
    if len(batches) == 1:
        return batches[0]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(batch, name) for batch in batches]) for name in RECORD_COLUMNS + EVENT_COLUMNS
    }
    users: list[bytes] = []
    rejects: dict[int, Reject] = {}
    record: list[Ints] = []
    for batch in batches:
        rejects.update({len(users) + i: reject for i, reject in batch.rejects.items()})
        record.append(batch.record + len(users))
        users += batch.users
    return EventBatch(users=users, rejects=rejects, record=np.concatenate(record), **columns)
