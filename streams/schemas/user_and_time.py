"""Records of a topic that is not keyed by user, as far as re-keying must look into them: the user and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.schemas.event_batch import Ints, Reject
from streams.schemas.flat_json import CODES, Schema, parse, users_of
from streams.schemas.record_batch import RecordBatch
from streams.schemas.timestamps import BAD, to_ms

SIZE_LIMIT = 800_000  # bytes of a record with key and headers: with room to spare below what one batch may hold
Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Routed:
    """n records of one or several partitions; columns of n entries."""

    users: list[bytes]  # UTF-8 id; empty where rejected
    values: list[bytes]  # as they came; empty where rejected
    headers: list[Headers]
    timestamp: Ints  # record time, ms
    key: Ints  # merge key, ms
    offset: Ints
    source: NDArray[np.int32]  # the partition that they come from
    reason: NDArray[np.uint8]  # 0 passed on, else index into REASONS
    rejects: dict[int, Reject]  # by index

    def __len__(self) -> int:
        return len(self.key)

    def take(self, index: Ints) -> Routed:
        """The records at index, in its order."""
        places = index.tolist()
        rejects = {j: self.rejects[i] for j, i in enumerate(places) if i in self.rejects} if self.rejects else {}
        return Routed(
            [self.users[i] for i in places],
            [self.values[i] for i in places],
            [self.headers[i] for i in places],
            self.timestamp[index],
            self.key[index],
            self.offset[index],
            self.source[index],
            self.reason[index],
            rejects,
        )


def concatenate(batches: Sequence[Routed]) -> Routed:
    """One batch after the other; at least one."""
    rejects: dict[int, Reject] = {}
    users: list[bytes] = []
    for one in batches:
        rejects.update({len(users) + i: reject for i, reject in one.rejects.items()})
        users += one.users
    return Routed(
        users,
        [value for b in batches for value in b.values],
        [heads for b in batches for heads in b.headers],
        np.concatenate([b.timestamp for b in batches]),
        np.concatenate([b.key for b in batches]),
        np.concatenate([b.offset for b in batches]),
        np.concatenate([b.source for b in batches]),
        np.concatenate([b.reason for b in batches]),
        rejects,
    )


def route(batch: RecordBatch, schema: Schema, *, key_before: int, now: int) -> Routed:
    """Users and merge keys of a fetch. now: wall clock, ms.

    A reject has no user that can be read, or is too large to be sent on; what else is wrong with a record is for
    whoever reads the rest of it. A record's merge key is the running maximum of event times from key_before on; times
    that the schema does not allow do not move it.
    """
    n = len(batch)
    reasons: dict[int, tuple[str, str]] = {}
    found = parse(batch.values, schema.route_one, schema.max_bytes, reasons)
    users = users_of([one.user_id for one in found], batch.keys, reasons, check_key=False)
    headers = batch.headers or [()] * n
    for i, heads in enumerate(headers):
        if heads or schema.max_bytes > SIZE_LIMIT:
            size = len(batch.values[i] or b"") + sum(len(name) + len(value or b"") for name, value in heads)
            if size + len(users[i]) > SIZE_LIMIT:
                reasons.setdefault(i, ("too_large", f"{size} bytes with headers"))
    time = to_ms([one.event_time for one in found])
    stamps = np.array(batch.timestamps, np.int64)
    time[(time == BAD) | (time > np.minimum(stamps, now) + schema.ahead)] = -1
    reason = np.zeros(n, np.uint8)
    values = list(batch.values)
    for i, (name, _) in reasons.items():
        reason[i], users[i], values[i], time[i] = CODES[name], b"", b"", -1
    return Routed(
        users,
        values,  # type: ignore[arg-type]  # a value that is none is a reject
        list(headers),
        stamps,
        np.maximum.accumulate(np.r_[key_before, time])[1:],
        np.array(batch.offsets, np.int64),
        np.full(n, batch.partition, np.int32),
        reason,
        {i: Reject.of(batch, i, *why) for i, why in reasons.items()},
    )
