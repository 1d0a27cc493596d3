"""A recovery as it goes: what is left, for operators and metrics, and its deadline."""

from __future__ import annotations

import asyncio
import time

from streams.errors import RecoveryError
from streams.runtime.data_loss import tell
from streams.runtime.fatal_errors import fail

EVERY = 3.0  # seconds between two lines


class Recovery:
    """From an assignment to the begin of its tasks. Records are counted by offsets, markers among them."""

    def __init__(self, changelog: str, deadline: float, last: float = 0.0) -> None:
        self._changelog, self._deadline = changelog, deadline
        self._begun = time.monotonic()
        self._parts: dict[int, tuple[int, int, int]] = {}  # first, next and end offset
        self._watch: asyncio.Future[None] | None = None
        self.last = last  # seconds from an assignment to ready, of the last one that got there

    def start(self) -> None:
        self._watch = asyncio.ensure_future(self._tell())

    def measure(self, number: int, held: int, end: int) -> None:
        """A partition's rows stand at an offset, its changelog ends at another."""
        self._parts[number] = held, held, end

    def advance(self, number: int, offset: int) -> None:
        if number in self._parts:
            first, _, end = self._parts[number]
            self._parts[number] = first, offset, end

    def left_of(self, number: int) -> int:
        """Changelog offsets of a partition that are still to be read."""
        _, at, end = self._parts[number]
        return max(0, end - at)

    @property
    def left(self) -> int:
        return sum(map(self.left_of, self._parts))

    @property
    def total(self) -> int:
        return sum(max(0, end - first) for first, _, end in self._parts.values())

    def where(self) -> str:
        """The partitions that are not done, and where they stand."""
        names = [f"{self._changelog}/{n} at {at} of {end}" for n, (_, at, end) in self._parts.items() if at < end]
        if names:
            return ", ".join(names)
        return "all records are read" if self._parts else "former owners are not fenced off yet"

    def end(self) -> None:
        """Ready, or an assignment that another one overtook."""
        if self._watch is not None:
            self._watch.cancel()

    def ready(self) -> None:
        self.end()
        self.last = time.monotonic() - self._begun
        done = self.total - self.left
        if self._parts:
            tell(f"ready {self.last:.1f} s after the assignment, {done:,} of {self.total:,} changelog records read")
        self._parts = {}

    async def _tell(self) -> None:
        """A line every few seconds, until the deadline ends the process."""
        while True:
            left = self._deadline - (time.monotonic() - self._begun)
            if left <= 0:
                fail(
                    RecoveryError(
                        f"recovery did not end within state.recovery_deadline ({self._deadline:g} s): {self.where()}"
                    )
                )
            await asyncio.sleep(min(EVERY, left))
            tell(self.line(time.monotonic() - self._begun))

    def line(self, seconds: float) -> str:
        """How far it is after some seconds."""
        total, left = self.total, self.left
        rate = (total - left) / seconds
        if not left or not rate:
            return f"recovering: {self.where()}"
        parts = ", ".join(str(number) for number, (_, at, end) in self._parts.items() if at < end)
        return (
            f"recovering partition {parts}: {total - left:,} of {total:,} changelog records, {rate:,.0f} a second, "
            f"{left / rate:.0f} s left"
        )
