"""Reads record batches from aiokafka's fetcher, without its own calls, which make an object of every record.

These functions use private attributes of aiokafka, so its version is pinned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException

from streams.schemas.record_batch import RecordBatch

FETCH_WAIT_MS = 50
LOOK_SECONDS = 0.1  # longest wait before the fetched partitions are looked at again: `held` may change meanwhile

Unpack = Callable[[Any, Any, int], RecordBatch | None]


async def drain(
    consumer: Any,
    held: Container[tuple[str, int]],
    *,
    timeout: float,
    limit: int,
    active: Any = None,
    unpack: Unpack,
) -> dict[Any, RecordBatch]:
    """Take what was fetched: one batch per partition, about `limit` records in all.

    Waits up to `timeout` seconds for the first batch. Returns batches by TopicPartition.

    held: paused partitions (topic, number). Their fetched data stays in the fetcher, which then fetches no more of
    them. active: the partitions to look at; all partitions where it is empty. unpack: makes a batch of a fetch result;
    unpack() below, or a function that calls it.
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
            batches = _take_batches(fetcher, held, active, limit, unpack)
            if batches or loop.time() >= deadline:
                return batches
            waiter = fetcher._create_fetch_waiter()
            wait_time = min(LOOK_SECONDS, max(0.0, deadline - loop.time()))
            done, pending = await asyncio.wait([waiter], timeout=wait_time)
            for future in pending:
                future.cancel()
            if fetcher._closed:
                return {}
            if done:
                waiter.result()  # raises the error of a failed fetch


def _take_batches(
    fetcher: Any, held: Container[tuple[str, int]], active: Any, limit: int, unpack: Unpack
) -> dict[Any, RecordBatch]:
    """The batches that the fetcher holds now; without waiting."""
    batches: dict[Any, RecordBatch] = {}
    remaining = limit
    for tp in list(fetcher._records):
        if active and tp not in active:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        if (tp.topic, tp.partition) in held:
            continue
        result = fetcher._records.pop(tp)
        if type(result) is not FetchResult:  # a FetchError
            fetcher._notify(fetcher._wait_consume_future)
            result.check_raise()
            continue
        batch = unpack(tp, result, remaining)
        if result.has_more():
            fetcher._records[tp] = result  # behind the other partitions, which so come first next time
        else:
            fetcher._notify(fetcher._wait_consume_future)  # the fetcher may fetch this partition again
        if batch is not None:
            batches[tp] = batch
            remaining -= len(batch)
            if remaining <= 0:
                break
    return batches


def unpack(tp: Any, result: Any, limit: int, *, headers: bool = False) -> RecordBatch | None:
    """The next records of a fetch result as lists, about `limit` of them.

    Verifies checksums (CorruptRecordException); skips aborted transactions and control records. A result of skipped
    records alone gives a batch without records, whose offsets say how far it goes. None where nothing is left.

    headers: whether to keep the records' headers.
    """
    if not result.check_assignment(tp) or not result.has_more():
        return None
    part = result._partition_records
    log_batches = part._records
    offsets: list[int] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    timestamps: list[int] = []
    header_lists: list[Any] = []
    first = position = part.next_fetch_offset
    while log_batches.has_next() and len(offsets) < limit:
        log_batch = log_batches.next_batch()
        if part._check_crcs and not log_batch.validate_crc():
            raise CorruptRecordException(f"invalid checksum in {tp}")
        if _is_aborted(part, log_batch):
            position = log_batch.next_offset
            continue
        if not log_batch.is_control_batch:
            for record in log_batch:
                if record.offset >= position:  # a fetch may begin in the middle of a batch
                    offsets.append(record.offset)
                    keys.append(record.key)
                    values.append(record.value)
                    timestamps.append(record.timestamp)
                    if headers:
                        header_lists.append(record.headers)
        position = log_batch.next_offset
    part.next_fetch_offset = position
    result._update_position()
    if not log_batches.has_next():
        result._partition_records = None
    if position == first:
        return None
    return RecordBatch(tp.topic, tp.partition, first, position - 1, offsets, keys, values, timestamps, header_lists)


def _is_aborted(part: Any, log_batch: Any) -> bool:
    """Whether a batch belongs to an aborted transaction; follows the producers' transactions as aiokafka does."""
    if part._isolation_level != READ_COMMITTED or log_batch.producer_id is None:
        return False
    part._consume_aborted_up_to(log_batch.base_offset)
    if log_batch.is_control_batch and part._contains_abort_marker(log_batch):
        part._aborted_producers.discard(log_batch.producer_id)
    return bool(log_batch.is_transactional and log_batch.producer_id in part._aborted_producers)


def ends(consumer: Any) -> dict[tuple[str, int], int | None]:
    """The last stable offset of each assigned partition, None before the first fetch that reports it."""
    return {key: state and state.lso for key, state in _partition_states(consumer).items()}


def end(consumer: Any, topic: str, partition: int) -> int | None:
    """What ends() says of one partition; None also where it is not assigned."""
    state = _partition_state(consumer, topic, partition)
    return state.lso if state else None


def forget_end(consumer: Any, topic: str, partition: int) -> None:
    """Forget the last stable offset of a partition: end() gives None until the next fetch reports it."""
    state = _partition_state(consumer, topic, partition)
    if state:
        state.lso = None


def positions(consumer: Any) -> dict[tuple[str, int], int | None]:
    """The next offset to fetch of each assigned partition, None where it is not known yet."""
    return {key: state and state._position for key, state in _partition_states(consumer).items()}


def _partition_states(consumer: Any) -> dict[tuple[str, int], Any]:
    """aiokafka's state of each assigned partition, by topic and number."""
    assignment = _assignment(consumer)
    return {(tp.topic, tp.partition): assignment.state_value(tp) for tp in assignment.tps} if assignment else {}


def _partition_state(consumer: Any, topic: str, partition: int) -> Any:
    """aiokafka's state of one partition; None where it is not assigned."""
    assignment = _assignment(consumer)
    return assignment.state_value((topic, partition)) if assignment else None


def _assignment(consumer: Any) -> Any:
    subscription = consumer._subscription.subscription
    return subscription.assignment if subscription else None
