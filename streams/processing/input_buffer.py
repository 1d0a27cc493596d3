"""What was fetched of a partition's sources and is not applied yet: offered, decoded, merged by time."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from streams.processing.progress import Source
from streams.processing.time_merge import Merge
from streams.schemas.event_batch import EventBatch, Reject, concatenate
from streams.schemas.record_batch import RecordBatch

QUEUE = 8_000  # records queued of a source beyond which it is held

Decode = Callable[[RecordBatch, int, int, int | None], EventBatch]  # batch, source, key before, now (ms)


class Inbox:
    """Of some sources, in the order that breaks ties of time."""

    def __init__(self, names: Sequence[str], sources: Sequence[Source], decode: Decode) -> None:
        """sources: how far each was applied."""
        self._names, self._decode = names, decode
        self._merge = Merge([s.key for s in sources], [s.offset for s in sources], concatenate)
        self._raw: list[deque[RecordBatch]] = [deque() for _ in names]  # offered, not decoded
        self._kept: list[deque[RecordBatch]] = [deque() for _ in names]  # decoded, not applied
        self.at_end = False  # all sources, as the last take found them
        self.holding: str | None = None  # the source that held the others back then

    def offer(self, batch: RecordBatch) -> bool:
        """A fetch of one source; False, and it is left out, where it is not contiguous with the one before."""
        if batch.first != self.queued_ends()[batch.topic]:
            return False
        self._raw[self._names.index(batch.topic)].append(batch)
        return True

    def queued_ends(self) -> dict[str, int]:
        """The next offset to read of each source, what was offered counted as read."""
        return {
            name: self._raw[i][-1].last + 1 if self._raw[i] else self._merge.position(i)
            for i, name in enumerate(self._names)
        }

    def held(self) -> set[str]:
        """Topics that have enough queued: their fetches are not to be drained now."""
        return {
            name
            for i, name in enumerate(self._names)
            if self._merge.queued(i) + sum(len(b.offsets) for b in self._raw[i]) >= QUEUE
        }

    def positions(self) -> dict[str, int]:
        """Next offset to apply of each source; what take() gave counts as applied."""
        return {name: self._merge.applied(i) for i, name in enumerate(self._names)}

    def take(self, now: int, ends: Mapping[str, int | None]) -> EventBatch | None:
        """All records that may go, in the applied order; None where there are none.

        now: wall clock, ms. ends: last stable offset of each source, None where not known yet.
        """
        for i, queue in enumerate(self._raw):
            while queue:
                batch = queue.popleft()
                self._merge.offer(i, self._decode(batch, i, self._merge.key(i), now), batch.last)
                self._kept[i].append(batch)
        at_end = []
        for i, name in enumerate(self._names):
            end = ends.get(name)
            at_end.append(end is not None and self._merge.position(i) >= end)
        merged = self._merge.take(at_end)
        holding = self._merge.holding(at_end)
        self.at_end, self.holding = all(at_end), None if holding is None else self._names[holding]
        return merged

    def reject(self, batch: EventBatch, at: int, reason: str, detail: str) -> Reject:
        """A record of a batch that was taken and is found to be a reject only now, with its original bytes."""
        source, offset = int(batch.source[at]), int(batch.offset[at])
        raw = next(kept for kept in self._kept[source] if kept.last >= offset)
        return Reject.of(raw, bisect_left(raw.offsets, offset), reason, detail)

    def forget(self) -> None:
        """What was taken is applied: its bytes are not asked for any more."""
        for i, kept in enumerate(self._kept):
            applied = self._merge.applied(i)
            while kept and kept[0].last < applied:
                kept.popleft()
