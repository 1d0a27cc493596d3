"""Progress and deadline of a recovery, for operators and metrics."""

from __future__ import annotations

import asyncio
import time

from streams.errors import RecoveryError
from streams.runtime.data_loss import print_notice
from streams.runtime.fatal_errors import exit_with_error

REPORT_INTERVAL = 3.0  # seconds between two lines


class Recovery:
    """From an assignment to the start of its tasks. Changelog records are counted by their offsets, so transaction
    markers count too."""

    def __init__(self, changelog: str, deadline: float, last_seconds: float = 0.0) -> None:
        """changelog: topic. deadline: seconds. last_seconds: what the recovery before took."""
        self._changelog, self._deadline = changelog, deadline
        self._started = time.monotonic()
        self._offsets: dict[int, tuple[int, int, int]] = {}  # by partition: first, next and end offset
        self.indexing: tuple[int, int] | None = None  # partition whose expiry index is being built, users done
        self._reporting: asyncio.Future[None] | None = None
        self.last_seconds = last_seconds  # from an assignment to ready, of the last recovery that completed

    def start(self) -> None:
        self._reporting = asyncio.ensure_future(self._report())

    def add_partition(self, number: int, stored: int, end: int) -> None:
        """stored: the next changelog offset that the local rows lack; end: the end of the changelog."""
        self._offsets[number] = stored, stored, end

    def advance(self, number: int, offset: int) -> None:
        """A partition's changelog was read up to an offset."""
        if number in self._offsets:
            first, _, end = self._offsets[number]
            self._offsets[number] = first, offset, end

    def remaining_of(self, number: int) -> int:
        """Changelog offsets of a partition that are still to be read."""
        _, position, end = self._offsets[number]
        return max(0, end - position)

    @property
    def remaining(self) -> int:
        return sum(map(self.remaining_of, self._offsets))

    @property
    def total(self) -> int:
        return sum(max(0, end - first) for first, _, end in self._offsets.values())

    def describe(self) -> str:
        """The partitions that are not complete, each with its position and end."""
        unfinished = [
            f"{self._changelog}/{number} at {position} of {end}"
            for number, (_, position, end) in self._offsets.items()
            if position < end
        ]
        if unfinished:
            return ", ".join(unfinished)
        if self.indexing is not None:
            number, users = self.indexing
            return f"all records are read, the expiry index of partition {number} is being built: {users:,} users"
        return "all records are read" if self._offsets else "former owners are not fenced off yet"

    def stop(self) -> None:
        """Stop reporting: the partitions are ready, or another assignment has replaced this one."""
        if self._reporting is not None:
            self._reporting.cancel()

    def complete(self) -> None:
        self.stop()
        self.last_seconds = time.monotonic() - self._started
        read = self.total - self.remaining
        if self._offsets:
            print_notice(
                f"ready {self.last_seconds:.1f} s after the assignment, {read:,} of {self.total:,} changelog records "
                "read"
            )
        self._offsets = {}

    async def _report(self) -> None:
        """Print a line every few seconds; end the process at the deadline."""
        while True:
            seconds_left = self._deadline - (time.monotonic() - self._started)
            if seconds_left <= 0:
                limit = f"state.recovery_deadline ({self._deadline:g} s)"
                exit_with_error(RecoveryError(f"recovery did not end within {limit}: {self.describe()}"))
            await asyncio.sleep(min(REPORT_INTERVAL, seconds_left))
            print_notice(self.report_line(time.monotonic() - self._started))

    def report_line(self, seconds: float) -> str:
        """The state of the recovery, some seconds after its start."""
        total, remaining = self.total, self.remaining
        rate = (total - remaining) / seconds
        if not remaining or not rate:
            return f"recovering: {self.describe()}"
        partitions = ", ".join(str(number) for number, (_, position, end) in self._offsets.items() if position < end)
        return (
            f"recovering partition {partitions}: {total - remaining:,} of {total:,} changelog records, {rate:,.0f} a "
            f"second, {remaining / rate:.0f} s left"
        )
