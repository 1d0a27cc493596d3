"""The processor of one partition: fetches in, flushes out. No IO; rows come from a store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from online_models.version import Version
from state import expiry_index, rows
from state.windows import UNIT
from streams.processing import progress as progress_
from streams.processing.batch_step import apply_batch, find_forgotten_user, floor_unit
from streams.processing.command_queue import CommandQueue
from streams.processing.input_buffer import QUEUE, Inbox
from streams.processing.model_swap import ModelSwap
from streams.processing.outputs.output_buffer import Flush, Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_state import PartitionState, Store
from streams.processing.progress import Entry, Progress, Source
from streams.processing.rejects import watch_share
from streams.schemas.event_batch import REASONS, EventBatch
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import Decode

CHUNK = 8_000  # records a step
COMMANDS_PER_TURN = 8  # an erasure takes a millisecond; then records may be applied


class PartitionProcessor:
    """Applies the sources of one partition in time order. All calls come from one thread."""

    def __init__(
        self,
        config: PartitionConfig,
        decode: Decode,
        store: Store,
        topics: Topics,
        *,
        commands: str | None = None,
        journal: bool = False,
        accept_rejects: bool = False,
        reject_window: int = 10_000,
        reject_share: float = 0.5,
    ) -> None:
        """commands: topic of the commands, None without. journal: whether progress records list what was applied, for
        the audits of tests/faults."""
        self.config, self._decode = config, decode
        self._state = PartitionState(config, store, topics, journal=journal)
        self._limits = None if accept_rejects else (reject_window, reject_share)
        for name in (*config.sources, *([commands] if commands else [])):
            self.progress.sources.setdefault(name, Source())
        self._inbox = self._new_inbox()
        self._commands = CommandQueue(self._state, commands) if commands else None
        self._swap = ModelSwap(self._state)
        if accept_rejects and self.progress.stopped:
            self.progress.stopped = None
            self.mark_changed()

    @property
    def progress(self) -> Progress:
        return self._state.progress

    @property
    def version(self) -> Version | None:
        """The model version in force; None where there is none or it is not known yet."""
        return self._state.version

    @property
    def counts(self) -> Counter[str]:
        """Counts since the caller last cleared them."""
        return self._state.output.counts

    @property
    def fresh(self) -> bool:
        """Whether the store had no progress."""
        return self._state.fresh

    # -- models -----------------------------------------------------------------------------------------------

    def missing_version(self) -> int:
        """The version that the progress names and that is waited for; 0 where none is."""
        return self._state.missing_version()

    def adopt(self, version: Version) -> None:
        """Take a published version: at once if the progress names it, else at the next cut."""
        self._swap.adopt(version)

    @property
    def swap_pending(self) -> bool:
        """Whether a version waits to be swapped to, or the pass after a swap is under way."""
        return self._swap.pending

    def continue_pass(self, limit: int) -> int:
        """Continue the pass after a swap, for at most limit users; how many were looked at."""
        return self._swap.continue_pass(limit)

    # -- time -------------------------------------------------------------------------------------------------

    def sweep(self, limit: int) -> int:
        """Decide exits and ends up to the watermark, for at most limit due users; how many were looked at."""
        state, progress = self._state, self.progress
        if self.missing_version() or progress.stopped:
            return 0
        if not progress.sweeping:
            if progress.watermark <= progress.swept or self._swap.waiting:
                return 0
            progress.sweeping = progress.watermark
        until = progress.sweeping
        entries = state.store.due(until // UNIT, limit)
        users = list(dict.fromkeys(expiry_index.split(entry)[1] for entry in entries))
        state.advance_users(users, until, dict.fromkeys(entries))
        if len(entries) < limit:
            progress.swept, progress.sweeping = until, 0
        state.changed = True
        return len(entries)

    def _advance_idle_watermark(self, now: int) -> None:
        """All sources are at their ends: the watermark advances by the wall time (ms) since it last moved."""
        progress = self.progress
        units = (now - progress.moved) // UNIT
        if units > 0 and progress.watermark > 0 and progress.moved > 0:
            progress.moved += units * UNIT
            self._state.raise_watermark(min(progress.watermark + units * UNIT, int(floor_unit(now))))

    # -- commands ---------------------------------------------------------------------------------------------

    def carry_out_commands(self, now: int) -> int:
        """Carry out the next COMMANDS_PER_TURN commands; how many there were. now: wall clock, ms."""
        if self._commands is None or self.missing_version() or self.progress.stopped:
            return 0
        return self._commands.run(now, COMMANDS_PER_TURN)

    # -- records ----------------------------------------------------------------------------------------------

    def _new_inbox(self) -> Inbox:
        sources = self.config.sources
        return Inbox(sources, [self.progress.sources[name] for name in sources], self._decode)

    def add(self, batch: RecordBatch) -> bool:
        """Queue a fetch of a source or of the commands; False, and it is left out, where it does not continue the one
        before."""
        if self._commands and batch.topic == self._commands.topic:
            return self._commands.add(batch)
        return self._inbox.add(batch)

    def queued_ends(self) -> dict[str, int]:
        """The next offset to read of each source, what is queued counted as read."""
        ends = self._inbox.queued_ends()
        if self._commands:
            ends[self._commands.topic] = self._commands.queued_end
        return ends

    def full_topics(self) -> set[str]:
        """Topics that have enough queued: their fetches are not to be drained now."""
        full = self._inbox.full_topics()
        return full | {self._commands.topic} if self._commands and self._commands.queued >= QUEUE else full

    def positions(self) -> dict[str, int]:
        """Next offset to apply of each source."""
        positions = self._inbox.positions()
        if self._commands:
            positions[self._commands.topic] = self._commands.offset
        return positions

    def skip_to(self, topic: str, offset: int) -> None:
        """Start a source at an offset: its log begins there."""
        self.progress.sources[topic].offset = offset
        self._inbox = self._new_inbox()

    def mark_changed(self) -> None:
        """The next cut has a progress even if no record comes: what was accepted is accepted once for all."""
        self._state.changed = True

    def run(self, now: int, ends: Mapping[str, int | None]) -> int:
        """Carry out the next commands, then apply the records that may be applied; how many these were. now: wall
        clock, ms. ends: last stable offset of each source, None where not known yet."""
        progress = self.progress
        if self.missing_version() or progress.stopped:
            return 0
        self.carry_out_commands(now)
        merged, watermark = self._inbox.take_ready(now, ends), progress.watermark
        progress.holding = self._inbox.holding
        size = 0 if merged is None else len(merged)
        for start in range(0, size, CHUNK):
            assert merged is not None
            chunk = merged if size <= CHUNK else merged.select(np.arange(start, min(start + CHUNK, size)))
            self._apply(chunk)  # also after a stop: what the merge has given is applied
        self._inbox.drop_applied()
        for name, offset in self._inbox.positions().items():
            if progress.sources[name].offset != offset:  # by control records alone, too
                progress.sources[name].offset = offset
                self.mark_changed()
        if progress.watermark > watermark:
            progress.moved = now
        elif self._inbox.at_end:
            self._advance_idle_watermark(now)
        return size

    def _apply(self, batch: EventBatch) -> None:
        """Apply records in their order; where a user is forgotten before one of them, in pieces."""
        start, size = 0, len(batch)
        while start < size:
            piece = batch.select(np.arange(start, size)) if start else batch
            users, row_of, joined = self._look_up(piece)
            end = find_forgotten_user(row_of, joined.heads, piece, self.progress, self.config)
            if end == 0:
                time = max(int(piece.time[0]), self.progress.watermark)
                self._state.advance_users([piece.users[0]], int(floor_unit(time)))
                continue
            if end:
                piece = piece.select(np.arange(end))
                users, row_of, joined = self._look_up(piece)
            self._step(piece, users, row_of, joined)
            start += len(piece)

    def _look_up(self, batch: EventBatch) -> tuple[list[bytes], np.ndarray, rows.Rows]:
        """Distinct users, which of them each record is of (-1: rejected), and their rows."""
        index: dict[bytes, Any] = dict.fromkeys(batch.users)
        index.pop(b"", None)  # the rejected
        users = list(index)
        index = dict(zip(users, range(len(users)), strict=True))
        index[b""] = -1
        row_of = np.fromiter(map(index.__getitem__, batch.users), np.int64, len(batch.users))
        return users, row_of, rows.join(self._state.store.get_many(users))

    def _step(self, batch: EventBatch, users: list[bytes], row_of: np.ndarray, joined: rows.Rows) -> None:
        state = self._state
        outcome = apply_batch(users, row_of, joined, batch, state.progress, state.version, self.config)
        for i, name in enumerate(self.config.sources):
            records = np.flatnonzero(batch.source == i)
            if len(records):
                state.progress.sources[name].key = int(batch.key[records[-1]])
        if state.journal:
            runs = np.flatnonzero(np.r_[True, batch.source[1:] != batch.source[:-1]]).tolist()
            for first, end in zip(runs, [*runs[1:], len(batch)], strict=True):
                state.record(Entry.RECORDS, int(batch.source[first]), end - first)
        state.collect(outcome)
        for i in np.flatnonzero(batch.reason).tolist():
            reject = batch.rejects.get(i)
            if reject is None:  # by the step
                reason = REASONS[int(batch.reason[i])]
                reject = self._inbox.late_reject(batch, i, reason, "the key is placed by another partitioner")
            state.output.add_reject(reject)
        if self._limits is not None:
            watch_share(state.progress, batch.reason, *self._limits)
        self.counts["events"] += len(batch)
        state.changed = True

    # -- flush ------------------------------------------------------------------------------------------------

    def cut(self, now: int) -> Flush | None:
        """What has changed since the last cut, at a batch boundary; None where nothing has. now: wall clock, ms."""
        state, progress = self._state, self.progress
        self._swap.start(state.output.rows)
        if not state.changed:
            return None
        state.changed = False
        progress.wall = now
        progress.number += 1
        flush = state.output.flush(progress_.dumps(progress), progress.serial, self.positions(), progress.swept)
        progress.journal = []
        return flush
