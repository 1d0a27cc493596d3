"""Records of a topic that is not keyed by user, as far as repartitioning looks into them: the user and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.schemas.event_batch import CODES, Ints, Reasons, Reject
from streams.schemas.event_columns import read_users
from streams.schemas.record_batch import RecordBatch
from streams.schemas.timestamps import BAD, to_ms

SIZE_LIMIT = 800_000  # bytes of a record with key and headers: with room to spare below what one batch may hold
Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class RoutedBatch:
    """n records of one or several partitions; columns of n entries."""

    users: list[bytes]  # UTF-8 id; empty where rejected
    values: list[bytes]  # as they came; empty where rejected
    headers: list[Headers]
    timestamp: Ints  # record time, ms
    key: Ints  # merge key, ms
    offset: Ints
    source: NDArray[np.int32]  # the partition that they come from
    reason: NDArray[np.uint8]  # 0 routed, else index into REASONS
    rejects: dict[int, Reject]  # by index

    def __len__(self) -> int:
        return len(self.key)

    def select(self, index: Ints) -> RoutedBatch:
        """The records at index, in its order."""
        chosen = index.tolist()
        rejects = {j: self.rejects[i] for j, i in enumerate(chosen) if i in self.rejects} if self.rejects else {}
        return RoutedBatch(
            [self.users[i] for i in chosen],
            [self.values[i] for i in chosen],
            [self.headers[i] for i in chosen],
            self.timestamp[index],
            self.key[index],
            self.offset[index],
            self.source[index],
            self.reason[index],
            rejects,
        )


def concatenate(batches: Sequence[RoutedBatch]) -> RoutedBatch:
    """One batch after the other; at least one."""
    rejects: dict[int, Reject] = {}
    users: list[bytes] = []
    for batch in batches:
        rejects.update({len(users) + i: reject for i, reject in batch.rejects.items()})
        users += batch.users
    return RoutedBatch(
        users,
        [value for batch in batches for value in batch.values],
        [headers for batch in batches for headers in batch.headers],
        np.concatenate([batch.timestamp for batch in batches]),
        np.concatenate([batch.key for batch in batches]),
        np.concatenate([batch.offset for batch in batches]),
        np.concatenate([batch.source for batch in batches]),
        np.concatenate([batch.reason for batch in batches]),
        rejects,
    )


def build(
    batch: RecordBatch,
    users: Sequence[str | int | None],
    times: Sequence[str | int | None],
    reasons: Reasons,
    *,
    ahead: int,
    max_bytes: int,
    key_before: int,
    now: int,
) -> RoutedBatch:
    """Users and merge keys of a fetch of n records; what cannot be routed is added to reasons.

    users, times (n,): the user id and the largest event time of each record, as they came. reasons: records that are
    rejects already. ahead: ms. key_before, now: as of `Schema.route`.

    A reject has no user that can be read, or is too large to be sent on; what else is wrong with a record is for
    whoever decodes it. Times that are none, or too far ahead, do not move the merge key.
    """
    n = len(batch)
    ids = read_users(users, batch.keys, reasons, check_key=False)
    headers = batch.headers or [()] * n
    for i, pairs in enumerate(headers):
        if pairs or max_bytes > SIZE_LIMIT:
            size = len(batch.values[i] or b"") + sum(len(name) + len(value or b"") for name, value in pairs)
            if size + len(ids[i]) > SIZE_LIMIT:
                reasons.setdefault(i, ("too_large", f"{size} bytes with headers"))
    time = to_ms(times)
    stamps = np.array(batch.timestamps, np.int64)
    time[(time == BAD) | (time > np.minimum(stamps, now) + ahead)] = -1
    reason = np.zeros(n, np.uint8)
    values = list(batch.values)
    for i, (name, _) in reasons.items():
        reason[i], ids[i], values[i], time[i] = CODES[name], b"", b"", -1
    return RoutedBatch(
        ids,
        values,  # type: ignore[arg-type]  # a value that is none is a reject
        list(headers),
        stamps,
        np.maximum.accumulate(np.r_[key_before, time])[1:],
        np.array(batch.offsets, np.int64),
        np.full(n, batch.partition, np.int32),
        reason,
        {i: Reject.of(batch, i, *why) for i, why in reasons.items()},
    )
