"""What aiokafka's fetcher holds, as whole batches: its own calls make an object of every record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException

from streams.schemas.record_batch import RecordBatch

FETCH_WAIT_MS = 50


async def drain(
    consumer: Any,
    held: Container[tuple[str, int]],
    *,
    timeout: float,
    limit: int,
    active: Any = None,
    unpack: Callable[[Any, Any, int], RecordBatch | None],
) -> dict[Any, RecordBatch]:
    """What was fetched, one batch a partition, up to about limit records; waits up to timeout seconds for the first.

    held: partitions left where they are, so the fetcher asks for no more of them; asked for each fetch, since it may
    change meanwhile. active: those to look at, all where it is empty. unpack: unpack() below, or what is around it.
    """
    fetcher = consumer._fetcher
    if consumer._closed or fetcher._closed:
        raise ConsumerStoppedError()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    with fetcher._subscriptions.fetch_context():
        while True:
            if fetcher._subscriptions.reassignment_in_progress:
                await fetcher._subscriptions.wait_for_assignment()
            out: dict[Any, RecordBatch] = {}
            left = limit
            for tp in list(fetcher._records):
                if active and tp not in active:
                    if not fetcher._subscriptions.is_assigned(tp):
                        del fetcher._records[tp]
                    continue
                if (tp.topic, tp.partition) in held:
                    continue
                result = fetcher._records.pop(tp)
                if type(result) is not FetchResult:
                    fetcher._notify(fetcher._wait_consume_future)
                    result.check_raise()
                    continue
                batch = unpack(tp, result, left)
                if result.has_more():
                    fetcher._records[tp] = result  # last in line: the others come first next time
                else:
                    fetcher._notify(fetcher._wait_consume_future)
                if batch is not None:
                    out[tp] = batch
                    left -= len(batch)
                    if left <= 0:
                        break
            if out or loop.time() >= deadline:
                return out
            waiter = fetcher._create_fetch_waiter()
            done, pending = await asyncio.wait([waiter], timeout=min(0.1, max(0.0, deadline - loop.time())))
            for one in pending:
                one.cancel()
            if fetcher._closed:
                return {}
            if done:
                waiter.result()


def unpack(tp: Any, result: Any, limit: int, *, headers: bool = False) -> RecordBatch | None:
    """The records of a fetch as lists, up to about limit; a fetch of control records alone is an empty batch.

    Checks sums, leaves out aborted transactions and control records. None where there is nothing.
    """
    if not result.check_assignment(tp) or not result.has_more():
        return None
    part = result._partition_records
    records = part._records
    offsets: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    timestamps: list[int] = []
    heads: list[Any] = []
    first = position = part.next_fetch_offset
    while records.has_next() and len(offsets) < limit:
        raw = records.next_batch()
        if part._check_crcs and not raw.validate_crc():
            raise CorruptRecordException(f"invalid checksum in {tp}")
        if part._isolation_level == READ_COMMITTED and raw.producer_id is not None:
            part._consume_aborted_up_to(raw.base_offset)
            if raw.is_control_batch and part._contains_abort_marker(raw):
                part._aborted_producers.discard(raw.producer_id)
            if raw.is_transactional and raw.producer_id in part._aborted_producers:
                position = raw.next_offset
                continue
        if not raw.is_control_batch:
            for record in raw:
                if record.offset >= position:
                    offsets.append(record.offset)
                    keys.append(record.key)
                    values.append(record.value)
                    timestamps.append(record.timestamp)
                    if headers:
                        heads.append(record.headers)
        position = raw.next_offset
    part.next_fetch_offset = position
    result._update_position()
    if not records.has_next():
        result._partition_records = None
    if position == first:
        return None
    return RecordBatch(tp.topic, tp.partition, first, position - 1, offsets, keys, values, timestamps, heads)


def ends(consumer: Any) -> dict[tuple[str, int], int | None]:
    """Last stable offset of each assigned partition, None where no fetch has told it yet."""
    return {at: state and state.lso for at, state in _states(consumer).items()}


def forget_end(consumer: Any, topic: str, partition: int) -> None:
    """The last stable offset of a partition counts as not told, until the next fetch tells it."""
    state = _states(consumer).get((topic, partition))
    if state:
        state.lso = None


def positions(consumer: Any) -> dict[tuple[str, int], int | None]:
    """Where each assigned partition is fetched from next, None where that is not known yet."""
    return {at: state and state._position for at, state in _states(consumer).items()}


def _states(consumer: Any) -> dict[tuple[str, int], Any]:
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription else None
    if assignment is None:
        return {}
    return {(tp.topic, tp.partition): assignment.state_value(tp) for tp in assignment.tps}
