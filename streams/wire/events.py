"""Events as columns: what every schema is decoded to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from state.vocabulary import VOCABULARY
from streams.records import RecordBatch

Ints = NDArray[np.int64]

TYPES, OTHER = VOCABULARY.event_types, VOCABULARY.other
REASONS = (
    "", "too_large", "null_value", "not_json", "bad_type", "no_user", "bad_user", "key_mismatch", "bad_time",
    "time_ahead", "bad_price", "bad_quantity", "currency", "wrong_partition",
    "bad_command",
)  # fmt: skip


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
    def of(cls, batch: RecordBatch, at: int, reason: str, detail: str) -> Reject:
        """The record at an index of a fetch."""
        return cls(reason, detail, batch.topic, batch.partition, batch.offsets[at], batch.timestamps[at],
                   batch.keys[at], batch.values[at])  # fmt: skip


@dataclass(frozen=True, slots=True)
class EventBatch:
    """n records in offset order (of one source) or in the applied order (merged); columns of n entries."""

    users: list[bytes]  # UTF-8 id; empty where rejected
    time: Ints  # epoch ms; 0 where rejected
    type: NDArray[np.int8]  # index into TYPES, OTHER for any other
    amount: Ints  # line in minor units, signed by quantity
    quantity: Ints
    event_id: NDArray[np.uint64]  # xxh3 of the text, 0 none
    session: NDArray[np.uint64]
    order: NDArray[np.uint64]  # of the transaction id
    category: NDArray[np.uint32]  # low half of xxh3, 0 none
    brand: NDArray[np.uint32]
    country: NDArray[np.uint32]
    region: NDArray[np.uint32]
    city: NDArray[np.uint32]
    offset: Ints
    source: NDArray[np.int8]
    key: Ints  # merge key, ms
    reason: NDArray[np.uint8]  # 0 accepted, else index into REASONS
    rejects: dict[int, Reject]  # by index

    def __len__(self) -> int:
        return len(self.key)

    def take(self, index: Ints) -> EventBatch:
        """The records at index, in its order."""
        columns: dict[str, Any] = {
            f.name: getattr(self, f.name)[index] for f in fields(self) if f.name not in ("users", "rejects")
        }
        places = index.tolist()
        users = [self.users[i] for i in places]
        rejects = {j: self.rejects[i] for j, i in enumerate(places) if i in self.rejects} if self.rejects else {}
        return replace(self, users=users, rejects=rejects, **columns)


def concatenate(batches: Sequence[EventBatch]) -> EventBatch:
    """One batch after the other; at least one."""
    if len(batches) == 1:
        return batches[0]
    columns: dict[str, Any] = {
        f.name: np.concatenate([getattr(b, f.name) for b in batches])
        for f in fields(EventBatch)
        if f.name not in ("users", "rejects")
    }
    users: list[bytes] = []
    rejects: dict[int, Reject] = {}
    for batch in batches:
        rejects.update({len(users) + i: reject for i, reject in batch.rejects.items()})
        users += batch.users
    return EventBatch(users=users, rejects=rejects, **columns)
