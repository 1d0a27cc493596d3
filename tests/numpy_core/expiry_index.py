"""When a row is next to be judged without an event: the expiry index beside the rows.

A row is due at the first edge at which a pane of it leaves a window, at the latest when it is to be forgotten. The
index holds one entry a row, ordered by time, so that a sweep reads only the rows that are due. A stale entry costs one
unnecessary row read. Times are in units of five minutes unless a comment says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from state.layout import Ints
from tests.numpy_core import rows, windows

PREFIX = b"\x00due"  # reserved: no user id begins with NUL
NONE = 0  # no entry
Times = TypeVar("Times", Ints, int)


def forgotten(last: Times, clock: Times, forget: int) -> Times:
    """The edge at which a row is forgotten: forget units after its largest event time (ms), and after its clock (ms),
    which lies later where that event came late."""
    edge = last // windows.UNIT + forget + 1, clock // windows.UNIT + 1
    return np.maximum(*edge) if isinstance(last, np.ndarray) else max(edge)


def next_due(owner: Ints, start: Ints, after: Ints, last: Ints, forget: int) -> Ints:
    """The next edge at which each row is due, (r,).

    owner (p,) ascending and start (p,): the panes of the rows; after (r,), ms: decided up to; last (r,), ms.
    """
    due = forgotten(last, after, forget)
    if len(owner):
        first = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
        with_panes = owner[first]
        soonest = np.minimum.reduceat(windows.next_exit(start, after[owner] // windows.UNIT), first)
        due[with_panes] = np.minimum(due[with_panes], soonest)
    return due


def entry(due: int, user: bytes) -> bytes:
    """The key of an entry. Entries sort by the edge, then by user.

    >>> split(entry(5, b"ann"))
    (5, b'ann')
    """
    return PREFIX + due.to_bytes(4, "big") + user


def split(entry: bytes) -> tuple[int, bytes]:
    """Edge and user of an entry."""
    at = len(PREFIX)
    return int.from_bytes(entry[at : at + 4], "big"), entry[at + 4 :]


def moved(users: Iterable[bytes], old: Ints, new: Ints) -> dict[bytes, bytes | None]:
    """Changes of the index for users whose edge is another (NONE: no entry): entries that go (None) and come (empty).

    users (u,), old and new edges (u,).
    """
    changes: dict[bytes, bytes | None] = {}
    for user, was, now in zip(users, old.tolist(), new.tolist(), strict=True):
        if was != now:
            if was:
                changes[entry(was, user)] = None
            if now:
                changes[entry(now, user)] = b""
    return changes


def possible_entries(user: bytes, row: bytes, forget: int) -> list[bytes]:
    """The entries of a user's row for every edge at which it could be due: what an erasure takes out of the index."""
    heads, panes, _ = rows.join([row])
    exits = windows.exits(panes["start"].astype(np.int64)).ravel()
    edges = np.unique(np.r_[exits, forgotten(heads["last"], heads["clock"], forget)])
    return [entry(edge, user) for edge in edges.tolist()]


def entries(users: Sequence[bytes], stored: Sequence[bytes], after: int, forget: int) -> dict[bytes, bytes | None]:
    """The entries of users' rows, whose exits up to the later of `after` (ms) and the row's clock are decided."""
    heads, panes, owner = rows.join(stored)
    decided = np.maximum(heads["clock"], after)
    due = next_due(owner, panes["start"].astype(np.int64), decided, heads["last"], forget)
    return {entry(edge, user): b"" for edge, user in zip(due.tolist(), users, strict=True)}
