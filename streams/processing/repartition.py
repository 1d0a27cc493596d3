"""Repartitioning one source: the partitions of a topic of the shop's, merged by time, sent to each record's user.

No IO. What comes out is the same for any split and interleaving of the fetches, and after any restart from a progress
that was cut: each partition's records strictly by merge key, ties by partition and offset of the raw topic.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from streams.processing.partitioner import partitions_of
from streams.processing.progress import Source
from streams.processing.rejects import Record, dead_letter, watch_share
from streams.processing.time_merge import Merge
from streams.schemas.record_batch import RecordBatch
from streams.schemas.routed_batch import RoutedBatch, concatenate
from streams.schemas.schema import Schema

LAYOUT = 1
QUEUE = 64_000  # records queued of all partitions beyond which fetches of those that run ahead are not drained
QUEUE_LEAST = 500  # of one of many partitions


class Progress(msgspec.Struct):
    """All that the next owner needs; written in the transaction of the records that it stands for."""

    layout: int = LAYOUT
    topic: str = ""  # the raw one
    ident: str = ""  # its id: another topic of the same name has another one
    logs: list[Source] = msgspec.field(default_factory=list)  # by partition
    wall: int = 0  # ms: when this was written, for operators
    reject_counts: dict[str, int] = msgspec.field(default_factory=dict, name="stretch")  # see rejects.watch_share
    stopped: str | None = None  # why the source waits for --accept-rejects


def dumps(progress: Progress) -> bytes:
    return msgspec.msgpack.encode(progress)


def loads(data: bytes) -> Progress:
    """The progress from its bytes; ValueError where they are not of this layout."""
    progress = msgspec.msgpack.decode(data, type=Progress)
    if progress.layout != LAYOUT:
        raise ValueError(f"layout {progress.layout} of a repartitioner's progress, expected {LAYOUT}")
    return progress


def resume(
    stored: Progress | None, topic: str, ident: str, firsts: Sequence[int], ends: Sequence[int], *, written: bool
) -> tuple[Progress, list[str]]:
    """Where repartitioning goes on, or begins; and what that would leave out or send twice.

    topic, ident: the raw one and its id; firsts, ends: of its partitions. written: whether the keyed topic has records.
    """
    fresh = Progress(topic=topic, ident=ident, logs=[Source(first) for first in firsts])
    if stored is None:
        gone = (
            f"{topic}: the keyed topic holds records, but the progress of its repartitioner is gone: all that {topic} "
            "holds would be sent once more"
        )
        return fresh, [gone] if written else []
    if stored.topic != topic or stored.ident != ident or len(stored.logs) > len(firsts):
        return fresh, [
            f"{topic} is not the {stored.topic} that was repartitioned so far: it would be sent from its start"
        ]
    losses = []
    logs = stored.logs + [Source() for _ in firsts[len(stored.logs) :]]  # it has grown
    for i, (log, first, end) in enumerate(zip(logs, firsts, ends, strict=True)):
        if log.offset > end:
            losses.append(f"{topic}/{i} ends at {end}, its repartitioner stands at {log.offset}: it has lost its end")
            logs[i] = Source(end, log.key)  # what there is was sent
        elif log.offset < first:
            between = f"its repartitioner stands at {log.offset}: records between are gone"
            losses.append(f"{topic}/{i} starts at {first}, {between}")
            logs[i] = Source(first, log.key)
    stored.logs = logs
    return stored, losses


@dataclass(slots=True)
class Outputs:
    """Of one topic partition: records, and their times in ms (None: the wall clock's)."""

    records: list[Record]
    stamps: list[int | None]


@dataclass(frozen=True, slots=True)
class Cut:
    """What one transaction holds."""

    outputs: dict[tuple[str, int], Outputs]
    progress: bytes
    records: int  # sent on, and rejects


class RepartitionProcessor:
    """Fetches in, cuts out. All calls come from one thread."""

    def __init__(
        self,
        progress: Progress,
        schema: Schema,
        *,
        topic: str,
        dead_letters: str,
        partitions: int,
        limits: tuple[int, float] | None,
    ) -> None:
        """topic, partitions: the keyed ones. limits: window and share of `rejects.watch_share`; None accepts all
        rejects."""
        self.progress, self._schema = progress, schema
        self._topic, self._dead_letters, self._partitions, self._limits = topic, dead_letters, partitions, limits
        if limits is None:
            progress.stopped = None
        logs = progress.logs
        self._merge = Merge([log.key for log in logs], [log.offset for log in logs], concatenate)
        self._queue = max(QUEUE_LEAST, QUEUE // max(1, len(logs)))
        self._outputs: dict[tuple[str, int], Outputs] = defaultdict(lambda: Outputs([], []))
        self.pending = 0  # records in them
        self._changed = True  # the first cut says which topic the progress is of
        self.counts: Counter[str] = Counter()  # since the shell last took them

    def position(self, partition: int) -> int:
        """Next offset of the raw topic to read."""
        return self._merge.position(partition)

    def full_partitions(self) -> set[int]:
        """Partitions that have enough queued: their fetches are not to be drained now."""
        return {i for i in range(len(self.progress.logs)) if self._merge.queued(i) >= self._queue}

    def add(self, batch: RecordBatch, now: int) -> bool:
        """Queue a fetch with headers; False, and it is left out, where it does not continue the one before.
        now: wall clock, ms."""
        partition = batch.partition
        if batch.first != self._merge.position(partition):
            return False
        routed = self._schema.route(batch, key_before=self._merge.key(partition), now=now)
        self._merge.add(partition, routed, batch.last)
        self._changed = True
        return True

    def run(self, ends: Mapping[int, int | None]) -> None:
        """Send on what may be sent. ends: last stable offset of each partition, None where not known yet."""
        if self.progress.stopped:
            return
        logs = self.progress.logs
        at_end = [(end := ends.get(i)) is not None and self._merge.position(i) >= end for i in range(len(logs))]
        merged = self._merge.take_ready(at_end)
        if merged is not None:
            self._apply(merged)
        for i, log in enumerate(logs):
            log.offset = self._merge.applied(i)

    def _apply(self, batch: RoutedBatch) -> None:
        last = np.full(len(self.progress.logs), -1)
        last[batch.source] = np.arange(len(batch))  # of a partition that comes often the last one stays
        for i in np.flatnonzero(last >= 0).tolist():
            self.progress.logs[i].key = int(batch.key[last[i]])
        good = np.flatnonzero(batch.reason == 0)
        part = partitions_of([batch.users[i] for i in good.tolist()], self._partitions)
        order = np.argsort(part, kind="stable")
        bounds = part[order].searchsorted(np.arange(self._partitions + 1))
        users, values, headers, stamps = batch.users, batch.values, batch.headers, batch.timestamp
        for number in range(self._partitions):
            chosen = good[order[bounds[number] : bounds[number + 1]]]
            if len(chosen):
                outputs = self._outputs[self._topic, number]
                outputs.records += [(users[i], values[i], list(headers[i])) for i in chosen.tolist()]
                outputs.stamps += stamps[chosen].tolist()
        for i in np.flatnonzero(batch.reason).tolist():
            reject = batch.rejects[i]
            self.counts[f"reject:{reject.reason}"] += 1
            outputs = self._outputs[self._dead_letters, reject.partition % self._partitions]
            outputs.records.append(dead_letter(reject))
            outputs.stamps.append(None)
        if self._limits is not None:
            watch_share(self.progress, batch.reason, *self._limits)
        self.pending += len(batch)

    def cut(self, now: int) -> Cut | None:
        """What has come since the last cut; None where nothing has. now: wall clock, ms."""
        if not self._changed:
            return None
        outputs, count, self._changed = dict(self._outputs), self.pending, False
        self._outputs.clear()
        self.pending = 0
        self.progress.wall = now
        return Cut(outputs, dumps(self.progress), count)
