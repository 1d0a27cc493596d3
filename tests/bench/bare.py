"""(c) A bare loop that only reads and decodes, as fast as Python honestly goes: the ceiling.

Record batches come straight from aiokafka's fetcher (its getmany makes an object a record: three times the processor
time); values go through one typed msgspec decoder. `python -m tests.bench.bare`, started by measure.child.
"""

from __future__ import annotations

import asyncio
import os
import time

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.structs import TopicPartition

from tests.bench.measure import Figure, cpu_seconds, leave, memory_mib


class Event(msgspec.Struct, gc=False):
    """The fields that the worker looks at too."""

    event_time: str
    event_type: str
    user_id: str
    event_id: str | None = None
    session_id: str | None = None
    transaction_id: str | None = None
    category: str | None = None
    brand: str | None = None
    price: float | None = None
    quantity: int | None = None
    country: str | None = None


async def read(bootstrap: str, topics: list[str], total: int) -> Figure:
    """Read and decode total records of topics; clock and count start once the first fetches are through, for they
    came while nobody looked."""
    decode = msgspec.json.Decoder(Event).decode
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        known = [(t, await consumer._client._wait_on_metadata(t)) for t in topics]
        consumer.assign([TopicPartition(t, p) for t, _ in known for p in consumer.partitions_for_topic(t)])
        fetcher = consumer._fetcher
        seen, begun = 0, (0, 0.0, 0.0)
        while seen < total:
            if not fetcher._records:
                await asyncio.wait([fetcher._create_fetch_waiter()], timeout=5.0)
            for tp in list(fetcher._records):
                result = fetcher._records.pop(tp)
                if type(result) is not FetchResult:
                    result.check_raise()
                    continue
                batches = result._partition_records._records
                while batches.has_next():
                    batch = batches.next_batch()
                    assert batch.validate_crc()
                    decoded = [decode(record.value) for record in batch]
                    seen += len(decoded)
                    position = batch.next_offset
                result._partition_records.next_fetch_offset = position
                result._update_position()
                result._partition_records = None
                fetcher._notify(fetcher._wait_consume_future)
            if seen and not begun[0]:
                begun = seen, time.perf_counter(), cpu_seconds()
            await asyncio.sleep(0)
        count, started, cpu = begun
        return Figure(seen - count, time.perf_counter() - started, cpu_seconds() - cpu, memory_mib())
    finally:
        await consumer.stop()


if __name__ == "__main__":
    names = os.environ
    leave(asyncio.run(read(names["BENCH_BOOTSTRAP"], names["BENCH_TOPICS"].split(","), int(names["BENCH_TOTAL"]))))
