"""The progress of one partition: one changelog record, written in the transaction of the rows it stands for."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import msgspec

PROGRESS_KEY = b"\x00progress"
LAYOUT = 1
BINS = 168  # quarter octaves of spend in minor units, up to 2**42


class Entry(IntEnum):
    """The kinds of entries of the journal: a kind and two values."""

    RECORDS = 0  # source index, records applied
    SWAP = 1  # version, mark
    RAISED = 2  # the watermark, as idle time or a command set it
    ERASED = 3  # user


class Source(msgspec.Struct):
    """How far a source was applied: next offset, and the running maximum of event time (ms) up to there."""

    offset: int = 0
    key: int = -1
    topic: str = ""  # id of the topic that the offset is of; "" in old records


class Shop(msgspec.Struct):
    """The partition's aggregates. Those of an hour count once the hour is over."""

    hour: int = -1  # the open accounting hour
    closed: list[int] = msgspec.field(default_factory=lambda: [0] * BINS)  # spend_24h at purchases, by size
    open: list[int] = msgspec.field(default_factory=lambda: [0] * BINS)
    training_hour: int = -1  # accounting hour that the next two count for
    candidates: int = 0  # rows that could have been sent in it
    training: int = 0  # rows sent in it
    share: int = 1 << 32  # of 2**32: users whose rows are sent, as the hour before asked for


class Serial(NamedTuple):
    """Which progress record of a partition it is."""

    number: int  # 0 in records that were written before they were numbered
    ordinal: int

    def follows(self, before: Serial) -> bool:
        """Whether it may be the next one committed after another."""
        return self.number == before.number + 1 and self.ordinal >= before.ordinal

    def __str__(self) -> str:
        return f"number {self.number} after {self.ordinal} records"


class Progress(msgspec.Struct):
    """All that a partition's next owner needs beside the rows."""

    layout: int = LAYOUT
    sources: dict[str, Source] = msgspec.field(default_factory=dict)
    number: int = 0  # of this progress record: one more than that of the one before
    ordinal: int = 0  # records applied
    users: int = 0
    sizes: dict[int, int] = msgspec.field(default_factory=dict)  # users in each segment
    top: int = -1  # largest merge key applied, ms
    watermark: int = 0  # ms, edge of a five-minute pane
    moved: int = 0  # ms, wall clock: when the watermark last moved
    swept: int = 0  # ms, edge of a pane: exits up to here are decided for all users
    sweeping: int = 0  # ms: where the sweep that is under way leads, 0 none
    version: int = 0  # model version in force, 0 none
    mark: int = 0  # what was swept at its swap, ms
    cursor: bytes | None = None  # last user of the swap's pass; None when no pass is under way
    holding: str | None = None  # source that holds the others back, for operators
    wall: int = 0  # ms: when this was written
    # what was applied since the last progress record, with the setting `state.journal` alone. `make faults` reads it
    # (tests/faults/order.py): an oracle computes the outputs anew from the order in which records were applied.
    journal: list[list[Any]] = msgspec.field(default_factory=list)
    # rejects of the open window by reason; under "" the records looked at
    reject_counts: dict[str, int] = msgspec.field(default_factory=dict, name="stretch")
    stopped: str | None = None  # why the partition waits for --accept-rejects
    shop: Shop = msgspec.field(default_factory=Shop)

    @property
    def serial(self) -> Serial:
        return Serial(self.number, self.ordinal)

    @property
    def unswept(self) -> int:
        """Event time (ms) whose exits the sweep has yet to decide; 0 before the first sweep."""
        return max(0, self.watermark - self.swept) if self.swept else 0


def dumps(progress: Progress) -> bytes:
    return msgspec.msgpack.encode(progress)


def loads(data: bytes) -> Progress:
    """The progress from its bytes; ValueError where they are not of this layout."""
    try:
        progress = msgspec.msgpack.decode(data, type=Progress)
    except msgspec.DecodeError as error:
        raise ValueError(f"no progress: {error}") from None
    if progress.layout != LAYOUT:
        raise ValueError(f"progress layout {progress.layout}, expected {LAYOUT}")
    return progress
