"""What becomes of rejects: dead letters, and a stop where most records are rejects."""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streams.schemas.event_batch import REASONS, Reject

VALUE_LIMIT = 524_288  # bytes of a dead letter's value; a larger one is cut
KEY_LIMIT = 4_096  # bytes of its key
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]  # key, value, headers


class Watched(Protocol):
    """A progress with the state of `watch_share`."""

    reject_counts: dict[str, int]  # rejects of the open window by reason; under "" the records looked at
    stopped: str | None  # why processing waits for --accept-rejects


def dead_letter(reject: Reject) -> Record:
    """The rejected record with its original bytes; what is over its limit is cut, with length and SHA-256."""
    headers = [
        ("reason", reject.reason.encode()),
        ("detail", reject.detail.encode()),
        ("topic", reject.topic.encode()),
        ("partition", str(reject.partition).encode()),
        ("offset", str(reject.offset).encode()),
        ("timestamp", str(reject.timestamp).encode()),
    ]
    key = _cut(reject.key, KEY_LIMIT, "key_", headers)
    return key, _cut(reject.value, VALUE_LIMIT, "", headers), headers


def _cut(data: bytes | None, limit: int, name: str, headers: list[tuple[str, bytes]]) -> bytes | None:
    if data is None or len(data) <= limit:
        return data
    headers.append((f"{name}length", str(len(data)).encode()))
    headers.append((f"{name}sha256", hashlib.sha256(data).hexdigest().encode()))
    return data[:limit]


def watch_share(progress: Watched, reason: NDArray[np.uint8], window: int, share: float) -> None:
    """Watch the share of rejects in each window of so many records, in the applied order; where it is larger than
    allowed (a wrong schema, not bad records), progress.stopped says so. reason (n,): 0 accepted, else index into
    REASONS."""
    counts, start = progress.reject_counts, 0
    while start < len(reason):
        part = reason[start : start + window - counts.get("", 0)]
        start += len(part)
        counts[""] = counts.get("", 0) + len(part)
        for code, number in enumerate(np.bincount(part).tolist()):
            if code and number:
                counts[REASONS[code]] = counts.get(REASONS[code], 0) + number
        if counts[""] < window:
            return
        records = counts.pop("")
        rejects = sum(counts.values())
        if rejects > share * records and not progress.stopped:
            common = max(counts, key=counts.__getitem__)
            progress.stopped = (
                f"{rejects} of {records} records in a row are rejects, mostly {common!r}: is the schema, the key or "
                "the partitioner another? --accept-rejects goes on"
            )
        counts.clear()
