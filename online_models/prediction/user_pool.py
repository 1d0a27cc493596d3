"""Rows that wait for what comes of them, of a bounded number of users, whatever came when."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class UserPool(Generic[Entry]):
    """Entries by user. Where there are more than `most`, the user with the last pseudonym leaves with all of its own:
    pseudonyms are hashes, so who stays has nothing to do with what was seen of them.

    >>> pool = UserPool(2)
    >>> pool.add(b"b", 1), pool.add(b"a", 2), pool.add(b"a", 3)
    ([], [], [1])
    """

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self._entries: dict[bytes, list[Entry]] = {}
        self._users: list[bytes] = []  # ascending

    def add(self, user: bytes, entry: Entry) -> list[Entry]:
        """The entries that leave for it, at times the entry itself."""
        if self.size >= self.most and self._users and user > self._users[-1]:
            return [entry]
        if user not in self._entries:
            self._entries[user] = []
            insort(self._users, user)
        self._entries[user].append(entry)
        self.size += 1
        evicted: list[Entry] = []
        while self.size > self.most:
            evicted += self.pop(self._users[-1])
        return evicted

    def entries(self, user: bytes) -> list[Entry]:
        """Of a user, in the order in which they were added."""
        return self._entries.get(user, [])

    def pop(self, user: bytes) -> list[Entry]:
        """A user's entries, which leave."""
        entries = self._entries.pop(user, [])
        if entries:
            del self._users[bisect_left(self._users, user)]
            self.size -= len(entries)
        return entries

    def replace(self, user: bytes, entries: list[Entry]) -> None:
        """Give a user other entries than before."""
        self.pop(user)
        for entry in entries:
            self.add(user, entry)

    def items(self) -> Iterator[tuple[bytes, list[Entry]]]:
        """Users with their entries, by pseudonym."""
        for user in list(self._users):
            yield user, self._entries[user]
