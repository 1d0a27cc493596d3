"""The commands of one partition: queued as they are fetched, and carried out in the order of their offsets."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from state import expiry_index
from streams.processing import commands
from streams.processing.batch_step import advance_rows, floor_unit
from streams.processing.partition_state import PartitionState
from streams.processing.progress import Entry
from streams.schemas.event_batch import Reject
from streams.schemas.record_batch import RecordBatch


class CommandQueue:
    """Commands do not wait for the time merge and do not hold it back: some are carried out, then records are applied,
    then the next. The progress has the offset of the next one, so each is carried out once."""

    def __init__(self, state: PartitionState, topic: str) -> None:
        self._state, self.topic = state, topic
        self._fetches: deque[RecordBatch] = deque()

    @property
    def offset(self) -> int:
        """Next offset to carry out."""
        return self._state.progress.sources[self.topic].offset

    @property
    def queued_end(self) -> int:
        """Next offset to read."""
        return self._fetches[-1].last + 1 if self._fetches else self.offset

    def add(self, batch: RecordBatch) -> bool:
        """Queue a fetch; False, and it is left out, where it does not continue the one before."""
        if batch.first != self.queued_end:
            return False
        self._fetches.append(batch)
        return True

    @property
    def queued(self) -> int:
        """Commands that wait."""
        return sum(len(batch) for batch in self._fetches)

    def run(self, now: int, limit: int) -> int:
        """Carry out at most limit of those that are queued; how many were. now: wall clock, ms."""
        source, count = self._state.progress.sources[self.topic], 0
        while self._fetches and count < limit:
            batch = self._fetches[0]
            start = bisect_left(batch.offsets, source.offset)  # those before were carried out in an earlier turn
            stop = min(len(batch), start + limit - count)
            for i in range(start, stop):
                self._carry_out(batch, i, now)
            count += stop - start
            if stop < len(batch):
                source.offset = batch.offsets[stop]
            else:
                source.offset = batch.last + 1
                self._fetches.popleft()
            self._state.changed = True
        return count

    def _carry_out(self, batch: RecordBatch, index: int, now: int) -> None:
        state = self._state
        command = commands.decode(batch.values[index])
        if isinstance(command, str):
            state.output.add_reject(Reject.of(batch, index, "bad_command", command))
            return
        if command.command == "advance":
            raised = state.raise_watermark(int(floor_unit(commands.time(command) or 0)))
            if raised:
                state.progress.moved = now
            result = "advanced" if raised else "unchanged"
        else:
            user = commands.user_key(command)
            if state.config.placed is not None and state.config.placed([user])[0] != state.config.partition:
                reject = Reject.of(batch, index, "wrong_partition", "the user is in another partition")
                state.output.add_reject(reject)
                return
            result = "erased" if self._erase(user) else "unknown"
        receipt = commands.receipt(command, result, batch, batch.offsets[index], now)
        state.output.add_receipt(command.request_id, receipt)

    def _erase(self, user: bytes) -> bool:
        state, watermark = self._state, self._state.progress.watermark
        state.advance_users([user], watermark)  # it may be forgotten by now
        (row,) = state.store.get_many([user])
        if row is None:
            state.output.add_tombstones(user)  # where an accepted loss left copies of a row that is not here
            state.changed = True
            return False
        outcome = advance_rows([user], [row], watermark, state.progress, state.version, state.config, erase=True)
        outcome.index = dict.fromkeys(expiry_index.possible_entries(user, row, state.config.forget))
        state.collect(outcome)
        state.record(Entry.ERASED, user, 0)
        return True
