"""What waits, of a bounded number of users: those whose pseudonyms come first, however much came when."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Sample(Generic[T]):
    """Entries by user. Where there are more than `most`, the user with the last pseudonym leaves with all of its own:
    pseudonyms are hashes, so who stays has nothing to do with what was seen of them."""

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self._of: dict[bytes, list[T]] = {}
        self._users: list[bytes] = []  # ascending

    def add(self, user: bytes, entry: T) -> list[T]:
        """What leaves for it, at times the entry itself."""
        if self.size >= self.most and self._users and user > self._users[-1]:
            return [entry]
        if user not in self._of:
            self._of[user] = []
            insort(self._users, user)
        self._of[user].append(entry)
        self.size += 1
        gone: list[T] = []
        while self.size > self.most:
            gone += self.pop(self._users[-1])
        return gone

    def of(self, user: bytes) -> list[T]:
        return self._of.get(user, [])

    def pop(self, user: bytes) -> list[T]:
        entries = self._of.pop(user, [])
        if entries:
            del self._users[bisect_left(self._users, user)]
            self.size -= len(entries)
        return entries

    def keep(self, user: bytes, entries: list[T]) -> None:
        """A user's entries, fewer or other ones than before."""
        self.pop(user)
        for entry in entries:
            self.add(user, entry)

    def items(self) -> Iterator[tuple[bytes, list[T]]]:
        """By pseudonym."""
        for user in list(self._users):
            yield user, self._of[user]
