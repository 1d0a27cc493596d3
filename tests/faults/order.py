"""The order in which a partition's records were applied, from the journal in its progress records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from streams.processing.progress import Entry, Progress
from tests.faults.evidence import Logged

UNIT = 300_000  # ms
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Event(NamedTuple):
    """An event as its JSON says; times in ms."""

    time: int
    type: str
    user: str
    ident: str | None
    session: str | None
    order: str | None
    price: float
    quantity: int


class Swap(NamedTuple):
    """A version took over, at a mark (ms)."""

    at: int
    version: int
    mark: int


class Erased(NamedTuple):
    """A user was erased; the watermark (ms) at that moment."""

    at: int
    user: str
    watermark: int


class Fed(NamedTuple):
    """An event was applied; the watermark (ms) before it, and its number among the partition's records, from 0."""

    at: int
    ordinal: int
    watermark: int
    event: Event


@dataclass(slots=True)
class Applied:
    """A partition's history; `at` numbers its records (rejects too), swaps and erasures in one sequence."""

    events: list[Fed] = field(default_factory=list)
    swaps: list[Swap] = field(default_factory=list)
    erased: list[Erased] = field(default_factory=list)
    records: int = 0
    left: int = 0  # records of the sources that were not applied
    swept: int = 0  # ms
    clashes: int = 0  # progress records whose offsets are not those of their journal


def parse(value: bytes | None) -> Event:
    """An accepted record."""
    found: dict[str, Any] = json.loads(value or b"")
    text = {
        name: None if found.get(name) in (None, "") else str(found[name])
        for name in ("event_id", "session_id", "transaction_id")
    }
    price, quantity = found.get("price"), found.get("quantity")
    return Event(
        _ms(found["event_time"]),
        found["event_type"],
        str(found["user_id"]),
        text["event_id"],
        text["session_id"],
        text["transaction_id"],
        0.0 if price is None else float(price),
        1 if quantity is None else int(quantity),
    )


def _ms(time: int | str) -> int:
    if isinstance(time, int) or time.isdigit():
        return int(time)
    return (datetime.fromisoformat(time) - _EPOCH) // timedelta(milliseconds=1)


def replayed(
    standing: Sequence[Progress], sources: Sequence[str], logs: Sequence[Sequence[Logged]], lateness: int
) -> Applied:
    """standing: a partition's progress records in their order; logs: those of its sources, by name."""
    out, top, watermark, at = Applied(), -1, 0, 0
    place, key = [0] * len(logs), [-1] * len(logs)
    events = [[None if record.reason else parse(record.value) for record in log] for log in logs]
    for now in standing:
        for kind, what, value in now.journal:
            if kind == Entry.RECORDS:
                source, taken = int(what), value
                if place[source] + taken > len(logs[source]):  # more than there are
                    out.clashes += 1
                    taken = len(logs[source]) - place[source]
                for event in events[source][place[source] : place[source] + taken]:
                    if event is not None:
                        key[source] = max(key[source], event.time)
                        out.events.append(Fed(at, out.records, watermark, event))
                    top = max(top, key[source])
                    watermark = max(watermark, (top - lateness) // UNIT * UNIT)
                    out.records += 1
                    at += 1
                place[source] += taken
            elif kind == Entry.SWAP:
                out.swaps.append(Swap(at, int(what), value))
                at += 1
            elif kind == Entry.RAISED:
                watermark = max(watermark, int(what))
            else:
                out.erased.append(Erased(at, bytes(what).decode(), watermark))
                at += 1
        stands = [now.sources[name].offset for name in sources]
        out.clashes += any(not _fits(log, place[i], at) for i, (log, at) in enumerate(zip(logs, stands, strict=True)))
    out.left = sum(len(log) - at for log, at in zip(logs, place, strict=True))
    out.swept = standing[-1].swept if standing else 0
    return out


def steps_back(standing: Sequence[Progress]) -> list[str]:
    """Where a partition's progress went back: its number, its count of records, or the offset of a source."""
    found = []
    for i, (before, after) in enumerate(pairwise(standing), 1):
        ahead = [name for name, source in before.sources.items() if source.offset > after.sources[name].offset]
        if after.number != before.number + 1 or after.ordinal < before.ordinal or ahead:
            found.append(f"record {i}: {before.serial} -> {after.serial} {ahead}")
    return found


def _fits(log: Sequence[Logged], taken: int, offset: int) -> bool:
    """Whether an offset to go on from is that after so many records."""
    return (not taken or log[taken - 1].offset < offset) and (taken == len(log) or offset <= log[taken].offset)
