"""What was fetched of a partition's sources and is not applied yet: queued, decoded, merged by time."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence

from streams.processing.progress import Source
from streams.processing.time_merge import Merge
from streams.schemas.event_batch import EventBatch, Reject, concatenate
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import Decode

QUEUE = 8_000  # records queued of a source beyond which its fetches are not drained


class Inbox:
    """Of some sources, in the order that breaks ties of time."""

    def __init__(self, names: Sequence[str], sources: Sequence[Source], decode: Decode) -> None:
        """sources: how far each was applied."""
        self._names, self._decode = names, decode
        self._merge = Merge([s.key for s in sources], [s.offset for s in sources], concatenate)
        self._undecoded: list[deque[RecordBatch]] = [deque() for _ in names]
        self._unapplied: list[deque[RecordBatch]] = [deque() for _ in names]  # decoded, but not applied
        self.at_end = False  # whether all sources were at their ends when take_ready was called last
        self.holding: str | None = None  # the source that held the others back then

    def add(self, batch: RecordBatch) -> bool:
        """Queue a fetch of one source; False, and it is left out, where it does not continue the one before."""
        if batch.first != self.queued_ends()[batch.topic]:
            return False
        self._undecoded[self._names.index(batch.topic)].append(batch)
        return True

    def queued_ends(self) -> dict[str, int]:
        """The next offset to read of each source, what is queued counted as read."""
        return {
            name: self._undecoded[i][-1].last + 1 if self._undecoded[i] else self._merge.position(i)
            for i, name in enumerate(self._names)
        }

    def full_topics(self) -> set[str]:
        """Topics that have enough queued: their fetches are not to be drained now."""
        return {
            name
            for i, name in enumerate(self._names)
            if self._merge.queued(i) + sum(map(len, self._undecoded[i])) >= QUEUE
        }

    def positions(self) -> dict[str, int]:
        """Next offset to apply of each source; what take_ready() gave counts as applied."""
        return {name: self._merge.applied(i) for i, name in enumerate(self._names)}

    def take_ready(self, now: int, ends: Mapping[str, int | None]) -> EventBatch | None:
        """Remove and return all records that may be applied, in the applied order; None where there are none.

        now: wall clock, ms. ends: last stable offset of each source, None where not known yet.
        """
        for i, queue in enumerate(self._undecoded):
            while queue:
                batch = queue.popleft()
                self._merge.add(i, self._decode(batch, i, self._merge.key(i), now), batch.last)
                self._unapplied[i].append(batch)
        at_end = []
        for i, name in enumerate(self._names):
            end = ends.get(name)
            at_end.append(end is not None and self._merge.position(i) >= end)
        merged = self._merge.take_ready(at_end)
        holding = self._merge.holding(at_end)
        self.at_end, self.holding = all(at_end), None if holding is None else self._names[holding]
        return merged

    def late_reject(self, batch: EventBatch, index: int, reason: str, detail: str) -> Reject:
        """The reject, with its original bytes, of a decoded record that is found to be one as it is applied."""
        source, offset = int(batch.source[index]), int(batch.offset[index])
        fetch = next(fetch for fetch in self._unapplied[source] if fetch.last >= offset)
        return Reject.of(fetch, bisect_left(fetch.offsets, offset), reason, detail)

    def drop_applied(self) -> None:
        """Drop the bytes of what take_ready() gave: it is applied."""
        for i, fetches in enumerate(self._unapplied):
            applied = self._merge.applied(i)
            while fetches and fetches[0].last < applied:
                fetches.popleft()
