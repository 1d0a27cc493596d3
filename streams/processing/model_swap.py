"""The swap to a new model version, and the pass that then judges every user by it."""

from __future__ import annotations

from collections.abc import Mapping

from online_models.version import Version
from streams.processing.partition_state import PartitionState
from streams.processing.progress import Entry


class ModelSwap:
    """Of one partition."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self._next: Version | None = None
        self._unscanned: list[bytes] = []  # users of the flush before the swap: not yet in the store's scan

    @property
    def waiting(self) -> bool:
        """Whether a version waits to be swapped to, and can be once a sweep under way has ended."""
        return self._next is not None and self._state.progress.cursor is None

    @property
    def pending(self) -> bool:
        """Whether a version waits, or a pass is under way."""
        return self._next is not None or self._state.progress.cursor is not None

    def adopt(self, version: Version) -> None:
        """Take a published version: at once if the progress names it, else at the next flush."""
        state = self._state
        if version.number == state.progress.version:
            state.version = version
        elif version.number > max(state.progress.version, self._next.number if self._next else 0):
            self._next = version

    def start(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Swap to the version that waits, unless a pass or a sweep is under way. rows: of the flush that is cut now."""
        state, progress = self._state, self._state.progress
        # a sweep that is under way has decided some exits under the old version: it is ended first
        if self._next is None or progress.cursor is not None or progress.sweeping or state.missing_version():
            return
        state.version, self._next = self._next, None
        progress.version = state.version.number
        progress.mark = progress.swept
        progress.cursor = b""
        state.record(Entry.SWAP, state.version.number, progress.mark)
        self._unscanned = sorted(key for key, row in rows.items() if row is not None)

    def continue_pass(self, limit: int) -> int:
        """Judge at most limit more users by the new version; how many were looked at."""
        state, progress = self._state, self._state.progress
        if progress.cursor is None or state.version is None:
            return 0
        if self._unscanned:
            users, self._unscanned = self._unscanned[:limit], self._unscanned[limit:]
            state.advance_users(users, progress.swept)
            return len(users)
        users = state.store.scan(progress.cursor or None, limit)
        state.advance_users(users, progress.swept)
        progress.cursor = users[-1] if len(users) == limit else None
        state.changed = True
        return len(users)
