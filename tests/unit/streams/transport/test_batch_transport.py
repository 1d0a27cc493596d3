"""Fetches as lists: the broker's own ranges explain the holes in them, and nothing else does."""

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
from streams.processing.batch_step import Rule
from streams.processing.output_buffer import Topics
from streams.processing.partition_processor import Task
from streams.schemas.record_batch import RecordBatch
from streams.transport.batch_transport import BatchConsumer, BatchThread, unpack
from tests.build import records
from tests.support.decoding import decode

AT = TopicPartition("clickstream", 0)


def stored(base: int, offsets: Sequence[int], producer: int = -1) -> bytearray:
    """A batch as the broker stores it: offsets of its records; of a transaction where a producer is given."""
    builder = DefaultRecordBatchBuilder(2, 0, producer >= 0, producer, 0, 0, 1 << 20)
    for offset in offsets:
        builder.append(offset - base, 7, b"k", b"%d" % offset, [])
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)  # the sum does not cover it
    return data


def fetched(data: bytes, position: int, aborted: Sequence[tuple[int, int]] = ()) -> FetchResult:
    part = PartitionRecords(AT, MemoryRecords(bytes(data)), list(aborted), position, None, None, True, READ_COMMITTED)
    state = SimpleNamespace(paused=False, position=position, consumed_to=lambda at: setattr(state, "position", at))
    assignment: Any = SimpleNamespace(active=True, state_value=lambda tp: state)
    return FetchResult(AT, assignment=assignment, partition_records=part, backoff=0)


def unpacked(data: bytes, position: int = 0, limit: int = 1 << 30, **more: Any) -> RecordBatch | None:
    return unpack(AT, fetched(data, position, **more), limit)


def test_a_batch_from_the_middle_and_holes_from_compaction() -> None:
    batch = unpacked(stored(10, [10, 11, 12, 15]) + stored(20, [22, 23]), 11)
    assert batch is not None
    assert (batch.first, batch.last, batch.offsets) == (11, 23, [11, 12, 15, 22, 23])
    assert batch.values == [b"11", b"12", b"15", b"22", b"23"]


def test_an_aborted_transaction_alone_moves_the_position() -> None:
    batch = unpacked(stored(5, [5, 6, 7], producer=9), 5, aborted=[(9, 5)])
    assert batch is not None
    assert (batch.first, batch.last, batch.offsets) == (5, 7, [])


def test_a_limit_leaves_the_rest_for_the_next_call() -> None:
    result = fetched(stored(0, [0, 1]) + stored(2, [2, 3]), 0)
    one = unpack(AT, result, 1)
    two = unpack(AT, result, 1)
    assert one is not None
    assert two is not None
    assert (one.offsets, two.first, two.offsets) == ([0, 1], 2, [2, 3])
    assert not result.has_more()


def test_a_flipped_byte_is_no_record() -> None:
    data = stored(0, [0, 1, 2])
    data[-2] ^= 0xFF
    with pytest.raises(CorruptRecordException):
        unpacked(data)


def test_a_task_takes_only_what_goes_on_where_it_is() -> None:
    task = Task(Rule(sources=("clickstream",)), decode, MemoryStore(), Topics("c", "s", "a", "d", "t", "r"))
    event = {"event_time": 1_700_000_000_000, "event_type": "view", "user_id": "a"}
    assert task.offer(records([event] * 3))
    assert not task.offer(records([event] * 3, first=4))  # a hole
    assert not task.offer(records([event] * 3, first=2))  # read before
    assert task.queued_ends() == {"clickstream": 3}
    assert task.offer(records([event] * 3, first=3))


class Running(BatchConsumer):
    should_stop = False  # without Faust's service around it


def reading(**told: int | None) -> tuple[Any, dict[TopicPartition, Any]]:
    """A consumer, and what the fetcher knows of its partitions; told: last stable offset of each topic's partition 0,
    by a fetch from before the reading began."""
    states = {TopicPartition(topic, 0): SimpleNamespace(lso=lso) for topic, lso in told.items()}
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


async def test_an_end_that_was_told_before_the_recovery_is_not_known() -> None:
    """Records came while the changelog was read: who stands at the end of before is not at the end."""
    consumer, states = reading(clickstream=300, purchases=20)
    assert consumer.end_offsets() == {("clickstream", 0): None, ("purchases", 0): None}
    await consumer.read_from("clickstream", 0, 300)
    assert consumer.end_offsets() == {("clickstream", 0): None, ("purchases", 0): None}
    states[AT].lso = 5_000  # the first fetch since
    assert consumer.end_offsets() == {("clickstream", 0): 5_000, ("purchases", 0): None}


async def test_a_source_that_stands_at_an_end_of_before_holds_the_others() -> None:
    """The clicks that came during the recovery are applied before a later purchase, whichever is fetched first."""
    sources = ("clickstream", "purchases")
    task = Task(Rule(sources=sources), decode, MemoryStore(), Topics("c", "s", "a", "d", "t", "r"))
    consumer, states = reading(clickstream=0, purchases=1)
    for topic in sources:
        await consumer.read_from(topic, 0, 0)
    at = 1_700_000_000_000
    bought = records([{"event_time": at + 10, "event_type": "purchase", "user_id": "a"}], topic="purchases")

    def applied() -> int:
        return task.run(at, {topic: consumer.end_offsets()[topic, 0] for topic in sources})

    states[TopicPartition("purchases", 0)].lso = 1
    assert task.offer(bought)
    assert applied() == 0
    states[AT].lso = 1
    assert applied() == 0
    assert task.offer(records([{"event_time": at, "event_type": "view", "user_id": "b"}]))
    assert applied() == 2
