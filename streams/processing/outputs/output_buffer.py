"""What a partition has to write since its last flush: rows, entries of the expiry index, outputs, counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from streams.processing.decisions import Outcome
from streams.processing.outputs.segment_changes import CAUSES, Changes
from streams.processing.progress import PROGRESS_KEY, Progress, Serial
from streams.processing.rejects import Record, dead_letter
from streams.schemas.event_batch import Reject


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the topics that a task writes."""

    changes: str
    segments: str
    alerts: str
    dead_letters: str
    training: str
    receipts: str


@dataclass(frozen=True, slots=True)
class Flush:
    """A snapshot at a batch boundary: all but the index, which only the store keeps, is one transaction."""

    rows: dict[bytes, bytes | None]  # the progress among them
    index: dict[bytes, bytes | None]  # changes of the expiry index
    outputs: dict[tuple[str, int], list[Record]]  # by topic and partition
    acked: dict[str, int]  # next offset of each source
    swept: int  # ms: up to where exits are decided
    serial: Serial  # of the progress among the rows
    event_times: np.ndarray  # ms: of the events behind segment changes, for the latency metric


class OutputBuffer:
    """Filled batch by batch, emptied by a flush. What a user's records lead to goes to the user's partition, which has
    the same number in every topic."""

    def __init__(self, topics: Topics, partition: int) -> None:
        self._topics, self._partition = topics, partition
        self.counts: Counter[str] = Counter()  # since the shell last took them
        self._clear()

    def _clear(self) -> None:
        self.rows: dict[bytes, bytes | None] = {}
        self.index: dict[bytes, bytes | None] = {}
        self.outputs: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self._event_times: list[np.ndarray] = []

    def add_outcome(self, outcome: Outcome, progress: Progress) -> None:
        """Take over an outcome whose rows and entries the store has taken; the sizes of segments are kept in progress,
        in place."""
        self.rows.update(outcome.written)
        self.index.update(outcome.index)
        self._event_times.append(outcome.event_times)
        self._add_outputs(outcome)
        _update_sizes(progress.sizes, outcome.changes)
        self._count(outcome)

    def _add_outputs(self, outcome: Outcome) -> None:
        topics, partition, outputs = self._topics, self._partition, self.outputs
        headers: list[tuple[str, bytes]] = []
        if outcome.change_records:
            outputs[topics.changes, partition] += [(key, change, headers) for key, change, _ in outcome.change_records]
            outputs[topics.segments, partition] += [
                (key, current, headers) for key, _, current in outcome.change_records
            ]
        if outcome.alert_records:
            outputs[topics.alerts, partition] += [(key, value, headers) for key, value in outcome.alert_records]
        if outcome.training_records:
            outputs[topics.training, 0] += [(key, value, headers) for key, value in outcome.training_records]

    def _count(self, outcome: Outcome) -> None:
        for cause, count in enumerate(np.bincount(outcome.changes.cause).tolist()):
            if count:
                self.counts[f"change:{CAUSES[cause]}"] += count
        for alert in outcome.alerts:
            self.counts[f"alert:{alert.rule.name}:{alert.status}"] += 1
        self.counts["training"] += len(outcome.training_records)
        self.counts["repeated"] += outcome.repeated
        self.counts["exits"] += outcome.exits
        self.counts["ended"] += outcome.ended

    def add_reject(self, reject: Reject) -> None:
        """A dead letter."""
        self.counts[f"reject:{reject.reason}"] += 1
        self.outputs[self._topics.dead_letters, self._partition].append(dead_letter(reject))

    def add_tombstones(self, user: bytes) -> None:
        """Delete a user of whom there is no row: the tombstones alone."""
        self.rows[user] = None
        self.outputs[self._topics.segments, self._partition].append((user, None, []))

    def add_receipt(self, request: str, value: bytes) -> None:
        """The receipt of a command, under its request id."""
        self.outputs[self._topics.receipts, self._partition].append((request.encode(), value, []))

    def flush(self, progress: bytes, serial: Serial, acked: dict[str, int], swept: int) -> Flush:
        """Everything since the last flush, with the progress that it leads to; empties the buffer."""
        event_times = np.concatenate(self._event_times) if self._event_times else np.zeros(0, np.int64)
        rows = self.rows | {PROGRESS_KEY: progress}
        flush = Flush(rows, self.index, self.outputs, acked, swept, serial, event_times)
        self._clear()
        return flush


def _update_sizes(sizes: dict[int, int], changes: Changes) -> None:
    """Users in each segment after changes, in place."""
    for segment_of, difference in ((changes.from_segment, -1), (changes.to_segment, 1)):
        segments, counts = np.unique(segment_of[segment_of >= 0], return_counts=True)
        for segment, count in zip(segments.tolist(), counts.tolist(), strict=True):
            sizes[segment] = sizes.get(segment, 0) + difference * count
