"""Fetches as batches, and reading from the offsets of an assignment."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from state.stores.memory import MemoryStore
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.schemas.record_batch import RecordBatch
from streams.transport.batch_transport import BatchConsumer, BatchThread, unpack
from tests.build import records
from tests.support.decoding import decode

AT = TopicPartition("clickstream", 0)


def stored(base: int, offsets: Sequence[int], producer: int = -1) -> bytearray:
    """A batch of records at these offsets as the broker stores it; transactional if a producer id is given."""
    builder = DefaultRecordBatchBuilder(2, 0, producer >= 0, producer, 0, 0, 1 << 20)
    for offset in offsets:
        builder.append(offset - base, 7, b"k", b"%d" % offset, [])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)  # the checksum does not cover the base offset
    return data


def fetched(data: bytes, position: int, aborted: Sequence[tuple[int, int]] = ()) -> FetchResult:
    partition_records = PartitionRecords(
        AT, MemoryRecords(bytes(data)), list(aborted), position, None, None, True, READ_COMMITTED
    )
    state = SimpleNamespace(paused=False, position=position, consumed_to=lambda at: setattr(state, "position", at))
    assignment: Any = SimpleNamespace(active=True, state_value=lambda tp: state)
    return FetchResult(AT, assignment=assignment, partition_records=partition_records, backoff=0)


def unpacked(data: bytes, position: int = 0, limit: int = 1 << 30, **more: Any) -> RecordBatch | None:
    return unpack(AT, fetched(data, position, **more), limit)


def test_a_fetch_from_the_middle_of_a_batch_and_gaps_from_compaction() -> None:
    batch = unpacked(stored(10, [10, 11, 12, 15]) + stored(20, [22, 23]), 11)
    assert batch is not None
    assert (batch.first, batch.last, batch.offsets) == (11, 23, [11, 12, 15, 22, 23])
    assert batch.values == [b"11", b"12", b"15", b"22", b"23"]


def test_a_fetch_of_an_aborted_transaction_only_advances_the_position() -> None:
    batch = unpacked(stored(5, [5, 6, 7], producer=9), 5, aborted=[(9, 5)])
    assert batch is not None
    assert (batch.first, batch.last, batch.offsets) == (5, 7, [])


def test_what_is_over_the_limit_is_left_for_the_next_call() -> None:
    result = fetched(stored(0, [0, 1]) + stored(2, [2, 3]), 0)
    first = unpack(AT, result, 1)
    second = unpack(AT, result, 1)
    assert first is not None
    assert second is not None
    assert (first.offsets, second.first, second.offsets) == ([0, 1], 2, [2, 3])
    assert not result.has_more()


def test_a_flipped_byte_is_refused() -> None:
    data = stored(0, [0, 1, 2])
    data[-2] ^= 0xFF
    with pytest.raises(CorruptRecordException):
        unpacked(data)


def test_a_task_takes_only_contiguous_batches() -> None:
    task = PartitionProcessor(
        PartitionConfig(sources=("clickstream",)), decode, MemoryStore(), Topics("c", "s", "a", "d", "t", "r")
    )
    event = {"event_time": 1_700_000_000_000, "event_type": "view", "user_id": "a"}
    assert task.add(records([event] * 3))
    assert not task.add(records([event] * 3, first=4))  # a gap
    assert not task.add(records([event] * 3, first=2))  # offered before
    assert task.queued_ends() == {"clickstream": 3}
    assert task.add(records([event] * 3, first=3))


class Running(BatchConsumer):
    should_stop = False  # without Faust's service around it


def reading(**ends: int | None) -> tuple[Any, dict[TopicPartition, Any]]:
    """A consumer, and the fetcher's states of its partitions.

    ends: last stable offset of each topic's partition 0, from a fetch before reading started.
    """
    states = {TopicPartition(topic, 0): SimpleNamespace(lso=lso) for topic, lso in ends.items()}
    assignment = SimpleNamespace(tps=set(states), state_value=states.__getitem__)
    thread: Any = BatchThread.__new__(BatchThread)
    thread._consumer = SimpleNamespace(
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
    )

    async def seek_wait(positions: Any) -> None:
        pass

    thread.seek_wait = seek_wait
    consumer: Any = Running.__new__(Running)
    consumer._thread, consumer.next_offsets, consumer._new_topicpartition = thread, {}, TopicPartition
    return consumer, states


async def test_an_end_from_before_the_recovery_counts_as_unknown() -> None:
    """Records arrived during the recovery, so a source at the former end is not at its end."""
    consumer, states = reading(clickstream=300, purchases=20)

    def ends() -> list[int | None]:
        return [consumer.end_offset(topic, 0) for topic in ("clickstream", "purchases", "commands")]

    assert ends() == [None, None, None]
    await consumer.read_from("clickstream", 0, 300)
    assert ends() == [None, None, None]
    states[AT].lso = 5_000  # the first fetch since
    assert ends() == [5_000, None, None]


async def test_a_source_at_its_former_end_holds_back_the_others() -> None:
    """Clicks that arrived during the recovery are applied before a later purchase, whichever is fetched first."""
    sources = ("clickstream", "purchases")
    task = PartitionProcessor(
        PartitionConfig(sources=sources), decode, MemoryStore(), Topics("c", "s", "a", "d", "t", "r")
    )
    consumer, states = reading(clickstream=0, purchases=1)
    for topic in sources:
        await consumer.read_from(topic, 0, 0)
    start = 1_700_000_000_000
    purchase = records([{"event_time": start + 10, "event_type": "purchase", "user_id": "a"}], topic="purchases")

    def run_task() -> int:
        return task.run(start, {topic: consumer.end_offset(topic, 0) for topic in sources})

    states[TopicPartition("purchases", 0)].lso = 1
    assert task.add(purchase)
    assert run_task() == 0
    states[AT].lso = 1
    assert run_task() == 0
    assert task.add(records([{"event_time": start, "event_type": "view", "user_id": "b"}]))
    assert run_task() == 2
