"""One partition's task: what its shell calls between a fetch and a flush. No IO; rows come from a store."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from online_models.version import Version
from streams import progress as progress_
from streams.alerts import RULES
from streams.changes import CAUSES
from streams.errors import RejectsError
from streams.merge import Merge
from streams.progress import PROGRESS_KEY, Progress, Source
from streams.records import RecordBatch
from streams.rejects import Record, dead_letter, watch
from streams.step import Outcome, Rule, rejudge, step
from streams.wire.events import REASONS, EventBatch, Reject, concatenate

QUEUE = 8_000  # records queued of a source beyond which it is held
CHUNK = 8_000  # records a step


class Store(Protocol):
    """Rows of one partition (state/store.py)."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def put_many(self, rows: Mapping[bytes, bytes | None]) -> None: ...
    def scan(self, after: bytes | None, limit: int) -> list[bytes]: ...


@dataclass(frozen=True, slots=True)
class Flush:
    """A snapshot at a batch boundary: all of it is one transaction."""

    rows: dict[bytes, bytes | None]
    outputs: dict[tuple[str, int], list[Record]]  # by topic and partition
    acked: dict[str, int]
    event_times: np.ndarray  # ms: of the events behind segment changes, for the latency metric


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the topics that a task writes."""

    changes: str
    segments: str
    alerts: str
    dead_letters: str
    training: str


Decode = Callable[[RecordBatch, int, int, int | None], EventBatch]  # batch, source, key before, now (ms)


class Task:
    """Fetches in, flushes out, for one partition. All calls come from one thread."""

    def __init__(
        self, rule: Rule, decode: Decode, store: Store, topics: Topics, *, accept_rejects: bool = False,
        reject_window: int = 10_000, reject_share: float = 0.5,
    ) -> None:  # fmt: skip
        self.rule, self._decode, self._store, self._topics = rule, decode, store, topics
        self._limits = None if accept_rejects else (reject_window, reject_share)
        (stored,) = store.get_many([PROGRESS_KEY])
        self.fresh = stored is None
        self.progress = Progress() if stored is None else progress_.loads(stored)
        for name in rule.sources:
            self.progress.sources.setdefault(name, Source())
        sources = [self.progress.sources[name] for name in rule.sources]
        self._merge = Merge([s.key for s in sources], [s.offset for s in sources], concatenate)
        self._raw: list[deque[RecordBatch]] = [deque() for _ in rule.sources]  # offered, not decoded
        self._kept: list[deque[RecordBatch]] = [deque() for _ in rule.sources]  # decoded, not applied
        self.version: Version | None = None
        self._next_version: Version | None = None
        self._extra: dict[bytes, bytes | None] = {}  # rows of the flush before a swap: not yet in the store's scan
        self._dirty: dict[bytes, bytes | None] = {}
        self._outputs: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self._times: list[np.ndarray] = []
        self._moved = False
        if accept_rejects:
            self.progress.stopped = None
        self.counts: Counter[str] = Counter()  # since the shell last took them

    # -- models -----------------------------------------------------------------------------------------------

    def needs(self) -> int:
        """The version that the progress names and that the task waits for; 0 when it needs none."""
        return self.progress.version if self.version is None else 0

    def adopt(self, version: Version) -> None:
        """A version that was published: taken at once if the progress names it, else swapped to at the next cut."""
        if version.number == self.progress.version:
            self.version = version
        elif version.number > max(self.progress.version, self._next_version.number if self._next_version else 0):
            self._next_version = version

    @property
    def swap_pending(self) -> bool:
        return self._next_version is not None or self.progress.cursor is not None

    def _swap(self, rows: dict[bytes, bytes | None]) -> None:
        if self._next_version is None or self.progress.cursor is not None or self.needs():
            return
        self.version, self._next_version = self._next_version, None
        self.progress.version = self.version.number
        self.progress.mark = self.progress.watermark
        self.progress.cursor = b""
        self._extra = rows
        self._moved = True

    def sweep(self, limit: int) -> int:
        """Go on with the pass after a swap, for at most limit users; how many were looked at."""
        cursor = self.progress.cursor
        if cursor is None or self.version is None:
            return 0
        if self._extra:
            users = sorted(key for key, row in self._extra.items() if row is not None and key[:1] != b"\x00")
            self._extra = {}
            self._rejudge(users)
            return len(users)
        users = self._store.scan(cursor or None, limit)
        self._rejudge(users)
        self.progress.cursor = users[-1] if len(users) == limit else None
        self._moved = True
        return len(users)

    def _rejudge(self, users: list[bytes]) -> None:
        old = [(user, row) for user, row in zip(users, self._store.get_many(users), strict=True) if row is not None]
        if old and self.version is not None:
            outcome = rejudge([u for u, _ in old], [r for _, r in old], self.progress, self.version, self.rule)
            self._collect(outcome)

    # -- records ----------------------------------------------------------------------------------------------

    def offer(self, batch: RecordBatch) -> bool:
        """A fetch of one source; False, and it is left out, where it is not contiguous with the one before."""
        if batch.first != self.queued_ends()[batch.topic]:
            return False
        self._raw[self.rule.sources.index(batch.topic)].append(batch)
        return True

    def queued_ends(self) -> dict[str, int]:
        """The next offset to read of each source, what was offered counted as read."""
        return {
            name: self._raw[i][-1].last + 1 if self._raw[i] else self._merge.position(i)
            for i, name in enumerate(self.rule.sources)
        }

    def held(self) -> set[str]:
        """Topics that have enough queued: their fetches are not to be drained now."""
        return {
            name
            for i, name in enumerate(self.rule.sources)
            if self._merge.queued(i) + sum(len(b.offsets) for b in self._raw[i]) >= QUEUE
        }

    def positions(self) -> dict[str, int]:
        """Next offset to read of each source, as of what was applied."""
        return {name: self._merge.applied(i) for i, name in enumerate(self.rule.sources)}

    def skip_to(self, topic: str, offset: int) -> None:
        """Start a source at an offset: its log begins there."""
        self.progress.sources[topic].offset = offset
        sources = [self.progress.sources[name] for name in self.rule.sources]
        self._merge = Merge([s.key for s in sources], [s.offset for s in sources], concatenate)

    def run(self, now: int, ends: Mapping[str, int | None]) -> int:
        """Apply what may go; records applied. now: wall clock, ms. ends: last stable offset of each source,
        None where not known yet."""
        if self.needs() or self.progress.stopped:
            return 0
        for i, queue in enumerate(self._raw):
            while queue:
                batch = queue.popleft()
                decoded = self._decode(batch, i, self._merge.key(i), now)
                self._merge.offer(i, decoded, batch.last)
                self._kept[i].append(batch)
                self._moved = True
        at_end = []
        for i, name in enumerate(self.rule.sources):
            end = ends.get(name)
            at_end.append(end is not None and self._merge.position(i) >= end)
        merged = self._merge.take(at_end)
        holding = self._merge.holding(at_end)
        self.progress.holding = None if holding is None else self.rule.sources[holding]
        applied = 0
        if merged is not None:
            size = len(merged)
            for start in range(0, size, CHUNK):
                chunk = merged if size <= CHUNK else merged.take(np.arange(start, min(start + CHUNK, size)))
                applied += self._apply(chunk)  # also after a stop: what the merge has handed out is applied
        for i, name in enumerate(self.rule.sources):
            source = self.progress.sources[name]
            source.offset = self._merge.applied(i)
            while self._kept[i] and self._kept[i][0].last < source.offset:
                self._kept[i].popleft()
        return applied

    def _apply(self, batch: EventBatch) -> int:
        index: dict[bytes, Any] = dict.fromkeys(batch.users)
        index.pop(b"", None)  # the rejected
        users = list(index)
        index = dict(zip(users, range(len(users)), strict=True))
        index[b""] = -1
        row_of = np.fromiter(map(index.__getitem__, batch.users), np.int64, len(batch.users))
        old = self._store.get_many(users)
        outcome = step(users, row_of, old, batch, self.progress, self.version, self.rule)
        for i, name in enumerate(self.rule.sources):
            mine = np.flatnonzero(batch.source == i)
            if len(mine):
                self.progress.sources[name].key = int(batch.key[mine[-1]])
        self._collect(outcome)
        rejected = np.flatnonzero(batch.reason)
        for i in rejected.tolist():
            self._reject(batch, i)
        if self._limits is not None:
            watch(self.progress, batch.reason, *self._limits)
        self.counts["events"] += len(row_of)
        self.counts["repeated"] += outcome.repeated
        self._moved = True
        self._times.append(outcome.caused)
        return len(row_of)

    def _collect(self, outcome: Outcome) -> None:
        """What a user's records bring goes to the user's partition, which has the same number in every topic."""
        self._store.put_many(outcome.written)
        self._dirty.update(outcome.written)
        topics, here, outputs = self._topics, self.rule.partition, self._outputs
        none: list[tuple[str, bytes]] = []
        if outcome.change_records:
            outputs[topics.changes, here] += [(key, change, none) for key, change, _ in outcome.change_records]
            outputs[topics.segments, here] += [(key, current, none) for key, _, current in outcome.change_records]
        if outcome.alert_records:
            outputs[topics.alerts, here] += [(key, value, none) for key, value in outcome.alert_records]
        if outcome.training_records:
            outputs[topics.training, 0] += [(key, value, none) for key, value in outcome.training_records]
        sizes, changes = self.progress.sizes, outcome.changes
        for moved, by in ((changes.frm, -1), (changes.to, 1)):
            segments, count = np.unique(moved[moved >= 0], return_counts=True)
            for segment, number in zip(segments.tolist(), count.tolist(), strict=True):
                sizes[segment] = sizes.get(segment, 0) + by * number
        for cause, number in enumerate(np.bincount(changes.cause).tolist()):
            if number:
                self.counts[f"change:{CAUSES[cause]}"] += number
        for alert in outcome.alerts:
            self.counts[f"alert:{RULES[alert.rule]}:{alert.status}"] += 1
        self.counts["training"] += len(outcome.training_records)

    def _reject(self, batch: EventBatch, i: int) -> None:
        reject = batch.rejects.get(i)
        if reject is None:  # found after decoding
            source, offset = int(batch.source[i]), int(batch.offset[i])
            raw = next(b for b in self._kept[source] if b.last >= offset)
            at = bisect_left(raw.offsets, offset)
            reason = REASONS[int(batch.reason[i])]
            reject = Reject(reason, "the key is placed by another partitioner", raw.topic, raw.partition, offset,
                            raw.timestamps[at], raw.keys[at], raw.values[at])  # fmt: skip
        self.counts[f"reject:{reject.reason}"] += 1
        self._outputs[self._topics.dead_letters, self.rule.partition].append(dead_letter(reject))

    def check(self) -> None:
        """RejectsError where the task has stopped, now or under an earlier owner; to be asked after a flush."""
        if self.progress.stopped:
            raise RejectsError(self.progress.stopped)

    # -- flush ------------------------------------------------------------------------------------------------

    def cut(self, now: int) -> Flush | None:
        """What has come since the last cut, at a batch boundary; None where nothing has. now: wall clock, ms."""
        if self._next_version is not None and self.progress.cursor is None and not self.needs():
            self._moved = True
        if not self._moved:
            return None
        rows, outputs, times = self._dirty, self._outputs, self._times
        self._dirty, self._outputs, self._times, self._moved = {}, defaultdict(list), [], False
        self._swap(rows)
        self.progress.wall = now
        with_progress = dict(rows)
        with_progress[PROGRESS_KEY] = progress_.dumps(self.progress)
        caused = np.concatenate(times) if times else np.zeros(0, np.int64)
        return Flush(with_progress, outputs, self.positions(), caused)
