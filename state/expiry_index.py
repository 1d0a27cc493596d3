"""When a row is next to be judged without an event: the due index beside the rows.

A row is due at the first edge at which a pane of it leaves a window, at the latest when it is to be forgotten. The
index holds one entry a row; one that is out of date costs a look and nothing else. All times are in units.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from state import rows, windows
from state.rows import Ints

PREFIX = b"\x00due"  # reserved: no user id begins with NUL
NONE = 0  # no entry
Times = TypeVar("Times", Ints, int)


def forgotten(last: Times, clock: Times, forget: int) -> Times:
    """The edge at which a row is forgotten: forget units after its largest event time (ms), and after its clock (ms),
    which lies later where that event came late."""
    edge = last // windows.UNIT + forget + 1, clock // windows.UNIT + 1
    return np.maximum(*edge) if isinstance(last, np.ndarray) else max(edge)


def next_due(owner: Ints, start: Ints, after: Ints, last: Ints, forget: int) -> Ints:
    """The next due edge (units) of each row, (r,).

    owner (p,) ascending and start (p,), units: the panes of the rows; after (r,), ms: decided up to; last (r,), ms.
    """
    due = forgotten(last, after, forget)
    if len(owner):
        first = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
        rows = owner[first]
        soonest = np.minimum.reduceat(windows.next_exit(start, after[owner] // windows.UNIT), first)
        due[rows] = np.minimum(due[rows], soonest)
    return due


def entry(due: int, user: bytes) -> bytes:
    return PREFIX + due.to_bytes(4, "big") + user


def split(entry: bytes) -> tuple[int, bytes]:
    """Due edge and user of an entry."""
    at = len(PREFIX)
    return int.from_bytes(entry[at : at + 4], "big"), entry[at + 4 :]


def moved(users: Iterable[bytes], old: Ints, new: Ints) -> dict[bytes, bytes | None]:
    """Changes of the index for users whose due edge is another (NONE: no entry): entries that go (None) and come."""
    changes: dict[bytes, bytes | None] = {}
    for user, was, now in zip(users, old.tolist(), new.tolist(), strict=True):
        if was != now:
            if was:
                changes[entry(was, user)] = None
            if now:
                changes[entry(now, user)] = b""
    return changes


def every(row: bytes, forget: int) -> list[int]:
    """All edges at which a row could be due: what an erasure takes out of the index."""
    heads, panes, _ = rows.join([row])
    exits = windows.exits(panes["start"].astype(np.int64)).ravel()
    return np.unique(np.r_[exits, forgotten(heads["last"], heads["clock"], forget)]).tolist()


def entries(users: Sequence[bytes], stored: Sequence[bytes], after: int, forget: int) -> dict[bytes, bytes | None]:
    """The index entries of rows whose exits up to `after` (ms) are decided, or which stand above it."""
    heads, panes, owner = rows.join(stored)
    decided = np.maximum(heads["clock"], after)
    due = next_due(owner, panes["start"].astype(np.int64), decided, heads["last"], forget)
    return {entry(at, user): b"" for at, user in zip(due.tolist(), users, strict=True)}
