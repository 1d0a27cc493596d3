"""One partition's task: what its shell calls between a fetch and a flush. No IO; rows come from a store."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from online_models.version import Version
from state import expiry_index
from state.windows import UNIT
from streams.processing import commands as commands_
from streams.processing import progress as progress_
from streams.processing.batch_step import (
    Outcome,
    PartitionConfig,
    advance_rows,
    apply_batch,
    find_forgotten_user,
    floor_unit,
)
from streams.processing.input_buffer import Decode, Inbox
from streams.processing.output_buffer import Flush, OutputBuffer, Topics
from streams.processing.progress import PROGRESS_KEY, Entry, Progress, Source
from streams.processing.rejects import watch
from streams.schemas.event_batch import REASONS, EventBatch, Reject
from streams.schemas.record_batch import RecordBatch

CHUNK = 8_000  # records a step


class Store(Protocol):
    """Rows of one partition and their expiry index (state/stores)."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def put_many(self, rows: Mapping[bytes, bytes | None], index: Mapping[bytes, bytes | None] = {}) -> None: ...
    def scan(self, after: bytes | None, limit: int) -> list[bytes]: ...
    def due(self, until: int, limit: int) -> list[bytes]: ...


class Task:
    """Fetches in, flushes out, for one partition. All calls come from one thread."""

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
        self.config, self._decode, self._store = config, decode, store
        self._limits = None if accept_rejects else (reject_window, reject_share)
        self._commands, self._journal = commands, journal
        (stored,) = store.get_many([PROGRESS_KEY])
        self.fresh = stored is None
        self.progress = Progress() if stored is None else progress_.loads(stored)
        for name in (*config.sources, *([commands] if commands else [])):
            self.progress.sources.setdefault(name, Source())
        self.progress.journal = []
        self._inbox = self._open()
        self._orders: deque[RecordBatch] = deque()  # of the commands topic, not carried out
        self.version: Version | None = None
        self._next_version: Version | None = None
        self._extra: list[bytes] = []  # users of the flush before a swap: not yet in the store's scan
        self._out = OutputBuffer(topics, config.partition)
        self.counts = self._out.counts
        self._moved = False
        if accept_rejects and self.progress.stopped:
            self.progress.stopped = None
            self.keep()

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
        # a sweep that is under way has decided some exits under the old version: it is ended first
        if self._next_version is None or self.progress.cursor is not None or self.progress.sweeping or self.needs():
            return
        self.version, self._next_version = self._next_version, None
        self.progress.version = self.version.number
        self.progress.mark = self.progress.swept
        self.progress.cursor = b""
        self._note(Entry.SWAP, self.version.number, self.progress.mark)
        self._extra = sorted(key for key, row in rows.items() if row is not None)

    def pass_on(self, limit: int) -> int:
        """Go on with the pass after a swap, for at most limit users; how many were looked at."""
        cursor = self.progress.cursor
        if cursor is None or self.version is None:
            return 0
        if self._extra:
            users, self._extra = self._extra[:limit], self._extra[limit:]
            self._bring(users, self.progress.swept)
            return len(users)
        users = self._store.scan(cursor or None, limit)
        self._bring(users, self.progress.swept)
        self.progress.cursor = users[-1] if len(users) == limit else None
        self._moved = True
        return len(users)

    # -- time -------------------------------------------------------------------------------------------------

    def sweep(self, limit: int) -> int:
        """Decide exits and ends up to the watermark, for at most limit due users; how many were looked at."""
        progress = self.progress
        if self.needs() or progress.stopped:
            return 0
        if not progress.sweeping:
            swap_comes = self._next_version is not None and progress.cursor is None
            if progress.watermark <= progress.swept or swap_comes:
                return 0
            progress.sweeping = progress.watermark
        until = progress.sweeping
        entries = self._store.due(until // UNIT, limit)
        gone: dict[bytes, bytes | None] = dict.fromkeys(entries)
        self._bring(list(dict.fromkeys(expiry_index.split(entry)[1] for entry in entries)), until, gone)
        if len(entries) < limit:
            progress.swept, progress.sweeping = until, 0
        self._moved = True
        return len(entries)

    def _bring(self, users: list[bytes], until: int, index: dict[bytes, bytes | None] | None = None) -> None:
        """Bring users up to a time (ms); index: entries that the caller came by."""
        found = [(user, row) for user, row in zip(users, self._store.get_many(users), strict=True) if row is not None]
        users, rows = [user for user, _ in found], [row for _, row in found]
        outcome = advance_rows(users, rows, until, self.progress, self.version, self.config)
        outcome.index = (index or {}) | outcome.index
        self._collect(outcome)

    def _idle(self, now: int) -> None:
        """All sources stand at their ends: the watermark goes on by the wall time since it last moved."""
        progress = self.progress
        units = (now - progress.moved) // UNIT
        if units > 0 and progress.watermark > 0 and progress.moved > 0:
            progress.moved += units * UNIT
            self._raise_to(min(progress.watermark + units * UNIT, int(floor_unit(now))))

    def _raise_to(self, time: int) -> bool:
        """Set the watermark without a record; whether it moved."""
        if time <= self.progress.watermark:
            return False
        self.progress.watermark = time
        self._note(Entry.RAISED, time, 0)
        return True

    def _note(self, kind: Entry, *what: Any) -> None:
        self._moved = True
        if self._journal:
            self.progress.journal.append([kind, *what])

    # -- commands ---------------------------------------------------------------------------------------------

    def _carry_out(self, batch: RecordBatch, now: int) -> None:
        for at, offset in enumerate(batch.offsets):
            command = commands_.decode(batch.values[at])
            if isinstance(command, str):
                self._out.add_reject(Reject.of(batch, at, "bad_command", command))
                continue
            if command.command == "advance":
                raised = self._raise_to(int(floor_unit(commands_.time(command) or 0)))
                if raised:
                    self.progress.moved = now
                result = "advanced" if raised else "unchanged"
            else:
                user = commands_.user_key(command)
                if self.config.placed is not None and self.config.placed([user])[0] != self.config.partition:
                    self._out.add_reject(Reject.of(batch, at, "wrong_partition", "the user is in another partition"))
                    continue
                result = "erased" if self._erase(user) else "unknown"
            self._out.add_receipt(command.request_id, commands_.receipt(command, result, batch, offset, now))

    def _erase(self, user: bytes) -> bool:
        self._bring([user], self.progress.watermark)  # it may be forgotten by now
        (row,) = self._store.get_many([user])
        if row is None:
            self._out.add_tombstones(user)  # where an accepted loss left copies of a row that is not here
            self._moved = True
            return False
        until = self.progress.watermark
        outcome = advance_rows([user], [row], until, self.progress, self.version, self.config, erase=True)
        outcome.index = dict.fromkeys(expiry_index.possible_entries(user, row, self.config.forget))
        self._collect(outcome)
        self._note(Entry.ERASED, user, 0)
        return True

    # -- records ----------------------------------------------------------------------------------------------

    def _open(self) -> Inbox:
        sources = self.config.sources
        return Inbox(sources, [self.progress.sources[name] for name in sources], self._decode)

    def offer(self, batch: RecordBatch) -> bool:
        """A fetch of a source or of the commands; False, and it is left out, where it is not contiguous with the one
        before."""
        if batch.topic != self._commands:
            return self._inbox.offer(batch)
        if batch.first != self.queued_ends()[batch.topic]:
            return False
        self._orders.append(batch)
        return True

    def queued_ends(self) -> dict[str, int]:
        """The next offset to read of each source, what was offered counted as read."""
        ends = self._inbox.queued_ends()
        if self._commands:
            applied = self.progress.sources[self._commands].offset
            ends[self._commands] = self._orders[-1].last + 1 if self._orders else applied
        return ends

    def held(self) -> set[str]:
        """Topics that have enough queued: their fetches are not to be drained now."""
        return self._inbox.held()

    def positions(self) -> dict[str, int]:
        """Next offset to read of each source, as of what was applied."""
        found = self._inbox.positions()
        if self._commands:
            found[self._commands] = self.progress.sources[self._commands].offset
        return found

    def skip_to(self, topic: str, offset: int) -> None:
        """Start a source at an offset: its log begins there."""
        self.progress.sources[topic].offset = offset
        self._inbox = self._open()

    def keep(self) -> None:
        """The next cut has a progress even if nothing comes: what was accepted is accepted once for all."""
        self._moved = True

    def run(self, now: int, ends: Mapping[str, int | None]) -> int:
        """Apply what may go; records applied. now: wall clock, ms. ends: last stable offset of each source,
        None where not known yet."""
        if self.needs() or self.progress.stopped:
            return 0
        while self._orders and self._commands:  # they neither wait for the merge nor hold it
            orders = self._orders.popleft()
            self._carry_out(orders, now)
            self.progress.sources[self._commands].offset = orders.last + 1
            self._moved = True
        merged, before = self._inbox.take(now, ends), self.progress.watermark
        self.progress.holding = self._inbox.holding
        size = 0 if merged is None else len(merged)
        for start in range(0, size, CHUNK):
            assert merged is not None
            chunk = merged if size <= CHUNK else merged.take(np.arange(start, min(start + CHUNK, size)))
            self._apply(chunk)  # also after a stop: what the merge has handed out is applied
        self._inbox.forget()
        for name, offset in self._inbox.positions().items():
            if self.progress.sources[name].offset != offset:  # by control records alone, too
                self.progress.sources[name].offset = offset
                self._moved = True
        if self.progress.watermark > before:
            self.progress.moved = now
        elif self._inbox.at_end:
            self._idle(now)
        return size

    def _apply(self, batch: EventBatch) -> None:
        """Apply records in their order; where a user is forgotten before one of them, in pieces."""
        start, size = 0, len(batch)
        while start < size:
            piece = batch.take(np.arange(start, size)) if start else batch
            users, row_of, old = self._look_up(piece)
            end = find_forgotten_user(row_of, old, piece, self.progress, self.config)
            if end == 0:
                self._bring([piece.users[0]], int(floor_unit(max(int(piece.time[0]), self.progress.watermark))))
                continue
            if end:
                piece = piece.take(np.arange(end))
                users, row_of, old = self._look_up(piece)
            self._step(piece, users, row_of, old)
            start += len(piece)

    def _look_up(self, batch: EventBatch) -> tuple[list[bytes], np.ndarray, list[bytes | None]]:
        """Distinct users, which of them each record is of (-1: rejected), and their rows."""
        index: dict[bytes, Any] = dict.fromkeys(batch.users)
        index.pop(b"", None)  # the rejected
        users = list(index)
        index = dict(zip(users, range(len(users)), strict=True))
        index[b""] = -1
        row_of = np.fromiter(map(index.__getitem__, batch.users), np.int64, len(batch.users))
        return users, row_of, self._store.get_many(users)

    def _step(self, batch: EventBatch, users: list[bytes], row_of: np.ndarray, old: list[bytes | None]) -> None:
        outcome = apply_batch(users, row_of, old, batch, self.progress, self.version, self.config)
        for i, name in enumerate(self.config.sources):
            mine = np.flatnonzero(batch.source == i)
            if len(mine):
                self.progress.sources[name].key = int(batch.key[mine[-1]])
        if self._journal:
            run = np.flatnonzero(np.r_[True, batch.source[1:] != batch.source[:-1]])
            for first, last in zip(run.tolist(), [*run.tolist()[1:], len(batch)], strict=True):
                self._note(Entry.RECORDS, int(batch.source[first]), last - first)
        self._collect(outcome)
        rejected = np.flatnonzero(batch.reason)
        for i in rejected.tolist():
            found = batch.rejects.get(i)
            if found is None:  # by the step
                reason = REASONS[int(batch.reason[i])]
                found = self._inbox.reject(batch, i, reason, "the key is placed by another partitioner")
            self._out.add_reject(found)
        if self._limits is not None:
            watch(self.progress, batch.reason, *self._limits)
        self.counts["events"] += len(row_of)
        self._moved = True

    def _collect(self, outcome: Outcome) -> None:
        self._store.put_many(outcome.written, outcome.index)
        self._out.add_outcome(outcome, self.progress)

    # -- flush ------------------------------------------------------------------------------------------------

    def cut(self, now: int) -> Flush | None:
        """What has come since the last cut, at a batch boundary; None where nothing has. now: wall clock, ms."""
        self._swap(self._out.rows)
        if not self._moved:
            return None
        self._moved = False
        self.progress.wall = now
        self.progress.number += 1
        flush = self._out.flush(
            progress_.dumps(self.progress), self.progress.serial, self.positions(), self.progress.swept
        )
        self.progress.journal = []
        return flush
