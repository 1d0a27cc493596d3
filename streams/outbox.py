"""What a partition's task has to say since its last cut: rows, entries of the expiry index, outputs, counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from streams.alerts import RULES
from streams.changes import CAUSES
from streams.progress import PROGRESS_KEY, Progress, Serial
from streams.rejects import Record, dead_letter
from streams.step import Outcome
from streams.wire.events import Reject


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


class Outbox:
    """Filled batch by batch, emptied by a cut. What a user's records bring goes to the user's partition, which has the
    same number in every topic."""

    def __init__(self, topics: Topics, partition: int) -> None:
        self._topics, self._partition = topics, partition
        self.counts: Counter[str] = Counter()  # since the shell last took them
        self._clear()

    def _clear(self) -> None:
        self.rows: dict[bytes, bytes | None] = {}
        self.index: dict[bytes, bytes | None] = {}
        self.outputs: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self._caused: list[np.ndarray] = []

    def collect(self, outcome: Outcome, progress: Progress) -> None:
        """An outcome whose rows and entries the store has taken; segment sizes are kept in progress."""
        self.rows.update(outcome.written)
        self.index.update(outcome.index)
        self._caused.append(outcome.caused)
        topics, here, outputs = self._topics, self._partition, self.outputs
        none: list[tuple[str, bytes]] = []
        if outcome.change_records:
            outputs[topics.changes, here] += [(key, change, none) for key, change, _ in outcome.change_records]
            outputs[topics.segments, here] += [(key, current, none) for key, _, current in outcome.change_records]
        if outcome.alert_records:
            outputs[topics.alerts, here] += [(key, value, none) for key, value in outcome.alert_records]
        if outcome.training_records:
            outputs[topics.training, 0] += [(key, value, none) for key, value in outcome.training_records]
        sizes, changes = progress.sizes, outcome.changes
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
        self.counts["repeated"] += outcome.repeated
        self.counts["exits"] += outcome.exits
        self.counts["ended"] += outcome.ended

    def reject(self, reject: Reject) -> None:
        self.counts[f"reject:{reject.reason}"] += 1
        self.outputs[self._topics.dead_letters, self._partition].append(dead_letter(reject))

    def gone(self, user: bytes) -> None:
        """A user of whom there is no row: the tombstones alone."""
        self.rows[user] = None
        self.outputs[self._topics.segments, self._partition].append((user, None, []))

    def receipt(self, request: str, value: bytes) -> None:
        self.outputs[self._topics.receipts, self._partition].append((request.encode(), value, []))

    def take(self, progress: bytes, serial: Serial, acked: dict[str, int], swept: int) -> Flush:
        """Everything since the last one, with the progress that it leads to."""
        caused = np.concatenate(self._caused) if self._caused else np.zeros(0, np.int64)
        rows = self.rows | {PROGRESS_KEY: progress}
        flush = Flush(rows, self.index, self.outputs, acked, swept, serial, caused)
        self._clear()
        return flush
