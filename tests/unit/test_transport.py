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
from streams.outbox import Topics
from streams.records import RecordBatch
from streams.step import Rule
from streams.task import Task
from streams.transport import unpack
from tests.build import records
from tests.unit.test_task import decode

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
    part = PartitionRecords(
        AT, MemoryRecords(bytes(data)), list(aborted), position, None, None, True, READ_COMMITTED
    )  # fmt: skip
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
