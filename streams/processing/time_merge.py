"""Several logs in one time: the sources of one partition, the partitions of a topic that is repartitioned.

A record's merge key is the running maximum of event time in its source. The smallest key goes first, ties by
the order of sources, each source strictly by offset. Records are merged, not events: those of a record stay together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from streams.schemas.event_batch import Ints


class Batch(Protocol):
    """Records in offset order, or merged."""

    @property
    def key(self) -> Ints: ...  # merge key, ms
    @property
    def offset(self) -> Ints: ...
    def __len__(self) -> int: ...
    def select(self, index: Ints) -> Self: ...


B = TypeVar("B", bound=Batch)


@dataclass
class _Queue(Generic[B]):
    key: int  # of the last record read, queued ones included
    position: int  # next offset to read, queued ones included
    batches: deque[tuple[B, int]] = field(default_factory=deque)  # with the last offset covered
    taken: int = 0  # records of the first batch that were given


class Merge(Generic[B]):
    """Queues of decoded batches, one a source; take_ready() gives what may be applied, in that order."""

    def __init__(self, keys: Sequence[int], positions: Sequence[int], concatenate: Callable[[Sequence[B]], B]) -> None:
        self._concatenate = concatenate
        self._queues = [_Queue[B](key, position) for key, position in zip(keys, positions, strict=True)]

    def add(self, source: int, batch: B, last: int) -> None:
        """Queue a decoded fetch that covers the offsets up to last (it may hold no record)."""
        queue = self._queues[source]
        queue.batches.append((batch, last))
        queue.position = last + 1
        if len(batch.key):
            queue.key = int(batch.key[-1])

    def queued(self, source: int) -> int:
        """Records of a source that are queued."""
        queue = self._queues[source]
        return sum(len(batch.key) for batch, _ in queue.batches) - queue.taken

    def key(self, source: int) -> int:
        """Merge key (ms) of the last record queued of a source, or of the last one applied."""
        return self._queues[source].key

    def position(self, source: int) -> int:
        """Next offset to read of a source, queued records counted as read."""
        return self._queues[source].position

    def applied(self, source: int) -> int:
        """Next offset to apply of a source."""
        queue = self._queues[source]
        for i, (batch, _) in enumerate(queue.batches):
            taken = queue.taken if i == 0 else 0
            if taken < len(batch.offset):
                return int(batch.offset[taken])
        return queue.position

    def holding(self, at_end: Sequence[bool]) -> int | None:
        """The source that holds the others back: not at its end, nothing queued, smallest key."""
        waiting = [
            (queue.key, i)
            for i, queue in enumerate(self._queues)
            if not at_end[i] and not self.queued(i) and len(self._queues) > 1
        ]
        return min(waiting)[1] if waiting else None

    def take_ready(self, at_end: Sequence[bool]) -> B | None:
        """Remove and return all records that may be applied now, in the applied order; None where there are none.

        at_end: whether the broker holds no record of the source that is not queued here. Of a source not at
        its end the next record has at least the key of the last one read: the smallest bounds all others.
        """
        pieces: list[B] = []
        bounds = sorted((queue.key, i) for i, queue in enumerate(self._queues) if not at_end[i])[:2]
        for j, queue in enumerate(self._queues):
            bound = next(((key, i) for key, i in bounds if i != j), None)
            while queue.batches:
                batch, _ = queue.batches[0]
                ready = len(batch.key)
                if bound is not None:
                    ready = int(batch.key.searchsorted(bound[0], "right" if j < bound[1] else "left"))
                if ready > queue.taken:
                    whole = ready - queue.taken == len(batch)
                    pieces.append(batch if whole else batch.select(np.arange(queue.taken, ready)))
                    queue.taken = ready
                if queue.taken < len(batch.key):
                    break
                queue.batches.popleft()
                queue.taken = 0
        if not pieces:
            return None
        merged = self._concatenate(pieces)
        return merged.select(np.argsort(merged.key, kind="stable")) if len(pieces) > 1 else merged
