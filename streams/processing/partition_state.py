"""What the parts of a partition processor share: rows, progress, model version, and what the next flush writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from online_models.version import Version
from streams.processing import progress as progress_
from streams.processing.batch_step import advance_rows
from streams.processing.decisions import Outcome
from streams.processing.outputs.output_buffer import OutputBuffer, Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.progress import PROGRESS_KEY, Entry, Progress


class Store(Protocol):
    """Rows of one partition and their expiry index (state/stores)."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def put_many(self, rows: Mapping[bytes, bytes | None], index: Mapping[bytes, bytes | None] = {}) -> None: ...
    def scan(self, after: bytes | None, limit: int) -> list[bytes]: ...
    def due(self, until: int, limit: int) -> list[bytes]: ...


class PartitionState:
    """Of one partition. `changed`: the next flush has a progress to write."""

    def __init__(self, config: PartitionConfig, store: Store, topics: Topics, *, journal: bool) -> None:
        self.config, self.store = config, store
        (stored,) = store.get_many([PROGRESS_KEY])
        self.fresh = stored is None
        self.progress = Progress() if stored is None else progress_.loads(stored)
        self.progress.journal = []
        self.version: Version | None = None  # None until the version that the progress names is known
        self.output = OutputBuffer(topics, config.partition)
        self.changed = False
        self.journal = journal  # whether progress records list what was applied

    def missing_version(self) -> int:
        """The version that the progress names and that is not known yet; 0 where none is missing."""
        return self.progress.version if self.version is None else 0

    def collect(self, outcome: Outcome) -> None:
        """Write the rows of an outcome to the store, and keep its outputs for the next flush."""
        self.store.put_many(outcome.written, outcome.index)
        self.output.add_outcome(outcome, self.progress)

    def advance_users(self, users: list[bytes], until: int, index: dict[bytes, bytes | None] | None = None) -> None:
        """Decide what time alone brings about for users, up to a time (ms). index: entries of the expiry index to be
        removed."""
        rows = {user: row for user, row in zip(users, self.store.get_many(users), strict=True) if row is not None}
        outcome = advance_rows(list(rows), list(rows.values()), until, self.progress, self.version, self.config)
        outcome.index = (index or {}) | outcome.index
        self.collect(outcome)

    def raise_watermark(self, time: int) -> bool:
        """Set the watermark (ms) without a record; whether it moved."""
        if time <= self.progress.watermark:
            return False
        self.progress.watermark = time
        self.record(Entry.RAISED, time, 0)
        return True

    def record(self, kind: Entry, *content: Any) -> None:
        """Something was applied: the progress has changed, and the journal has an entry if it is kept."""
        self.changed = True
        if self.journal:
            self.progress.journal.append([kind, *content])
