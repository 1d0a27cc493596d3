"""What the broker ships: the records of one fetch of one topic partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """One fetch. The lists have one entry a record; offsets ascend, with holes where the broker has them."""

    topic: str
    partition: int
    first: int  # the fetch position: the offset expected next
    last: int  # the last offset that the fetch covers, control records and holes included
    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: list[int]  # record time, ms
    headers: list[Sequence[tuple[str, bytes | None]]] = field(default_factory=list)  # empty where not asked for

    def __len__(self) -> int:
        return len(self.offsets)

    def select(self, index: Sequence[int]) -> RecordBatch:
        """The records at index, in its order."""
        return RecordBatch(
            self.topic,
            self.partition,
            self.first,
            self.last,
            [self.offsets[i] for i in index],
            [self.keys[i] for i in index],
            [self.values[i] for i in index],
            [self.timestamps[i] for i in index],
            [self.headers[i] for i in index] if self.headers else [],
        )
