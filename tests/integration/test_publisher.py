"""Transactions at their edges, on real Kafka: where rows lie, and what ends one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from state.stores.rocksdb import Meta, RowStore
from streams.config.settings import Settings
from streams.errors import RecoveryError, TransactionError
from streams.kafka.reader import reading
from streams.processing import progress
from streams.processing.outputs.output_buffer import Flush
from streams.processing.progress import PROGRESS_KEY, Progress, Serial
from streams.processing.rejects import Record
from streams.runtime.publisher import MAX_BATCH_BYTES, Publisher, transaction_error
from tests.processes import deployment, read, wait_for

pytestmark = pytest.mark.kafka


def flush(
    count: int, size: int = 1_000, outputs: dict[tuple[str, int], list[Record]] | None = None, number: int = 1
) -> Flush:
    """A flush of some rows whose progress has a number, the first of its partition if not told otherwise."""
    rows: dict[bytes, bytes | None] = {b"user-%d" % i: b"x" * size for i in range(count)}
    rows[PROGRESS_KEY] = progress.dumps(Progress(number=number, ordinal=count))
    return Flush(rows, {}, outputs or {}, {}, 0, Serial(number, 0), np.zeros(0, np.int64))


async def committed(settings: Settings, topic: str, least: int = 0) -> list[tuple[int, bytes]]:
    """(offset, key) of what a read_committed reader finds in partition 0 up to its end, at least so many within ten
    seconds: the broker answers a commit before readers see it."""
    found: list[tuple[int, bytes]] = []
    for _ in range(100):
        found = [(record.offset, record.key) for record in await read(settings, topic, 1)]
        if len(found) >= least:
            break
        await asyncio.sleep(0.1)
    return found


async def test_the_offset_after_rows_of_several_batches(kafka: str, prefix: str, tmp_path: Path) -> None:
    settings = deployment(kafka, prefix)
    publisher, store = Publisher(settings, 0), RowStore(tmp_path / "0", Meta("t", 0, 4), cache_rows=1_000)
    await publisher.start()
    total = 0
    for number, count in enumerate((3, 2 * MAX_BATCH_BYTES // 1_000 + 7, 1), 1):  # the second fills three batches
        made = flush(count, number=number)
        total += len(made.rows)
        store.write_flush(made.rows, await publisher.commit(made))
        offset, key = (await committed(settings, settings.changelog, total))[-1]
        assert key == PROGRESS_KEY
        assert store.offset() == offset + 1
    await publisher.stop()


async def test_a_fenced_producer_leaves_no_trace(kafka: str, prefix: str) -> None:
    settings = deployment(kafka, prefix)
    first, second = Publisher(settings, 0), Publisher(settings, 0)
    await first.start()
    await first.commit(flush(1))
    await second.start()
    with pytest.raises(TransactionError, match="partition 0: fenced off: another worker"):
        await asyncio.wait_for(first.commit(flush(50, number=2)), 30)
    second.committed = Serial(1, 0)
    await second.commit(flush(2, number=2))
    assert [key for _, key in await committed(settings, settings.changelog, 5)] == [
        b"user-0",
        PROGRESS_KEY,
        b"user-0",
        b"user-1",
        PROGRESS_KEY,
    ]
    await second.stop()


@pytest.mark.parametrize("serial", [Serial(5, 90), Serial(7, 90), Serial(6, 79)])
async def test_a_progress_that_does_not_follow_is_not_sent(kafka: str, prefix: str, serial: Serial) -> None:
    """Whatever a recovery has done: rows of an earlier progress do not take the place of newer ones."""
    settings = deployment(kafka, prefix)
    publisher = Publisher(settings, 0)
    await publisher.start()
    publisher.committed = Serial(5, 80)
    with pytest.raises(RecoveryError) as caught:
        await publisher.commit(replace(flush(3), serial=serial))
    assert str(caught.value) == (
        f"partition 0: the progress to be committed is number {serial.number} after {serial.ordinal} records, the "
        "newest in the changelog is number 5 after 80 records: nothing was committed"
    )
    assert await committed(settings, settings.changelog) == []
    await publisher.commit(replace(flush(3), serial=Serial(6, 80)))
    await publisher.stop()


async def test_fenced_inside_a_transaction(kafka: str, prefix: str) -> None:
    """What a dead owner had sent is aborted by the start of the next; the thawed one cannot commit it."""
    settings = deployment(kafka, prefix)
    first, second = Publisher(settings, 0), Publisher(settings, 0)
    await first.start()
    await first._producer.begin_transaction()
    await first._send(flush(5), [])
    await second.start()
    with pytest.raises(TransactionError, match="fenced off"):
        raise transaction_error(await raised(first._producer.commit_transaction()), "partition 0", 20.0)
    assert await committed(settings, settings.changelog) == []
    await second.commit(flush(1))
    assert len(await committed(settings, settings.changelog, 2)) == 2
    await second.stop()


async def raised(work) -> BaseException:  # type: ignore[no-untyped-def]
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await asyncio.wait_for(work, 30)
    return caught.value


async def test_a_transaction_that_the_broker_timed_out(kafka: str, prefix: str) -> None:
    """The test broker looks every second whether a transaction is older than it may be."""
    settings = deployment(kafka, prefix, **{"state.transaction_timeout": 1.0, "state.flush_interval": 0.25})
    publisher = Publisher(settings, 0)
    await publisher.start()
    await publisher._producer.begin_transaction()
    await publisher._send(flush(5), [])
    await aborted(settings)
    error = transaction_error(await raised(publisher._producer.commit_transaction()), "partition 0", 1.0)
    assert str(error).startswith("partition 0: fenced off: another worker has taken over, or the transaction took")
    assert "state.transaction_timeout (1 s)" in str(error)
    again = Publisher(settings, 0)
    await again.start()
    await again.commit(flush(1))
    assert len(await committed(settings, settings.changelog, 2)) == 2
    await again.stop()


async def aborted(settings: Settings) -> None:
    """Until the broker has ended the open transaction of partition 0: the last stable offset moves."""
    from aiokafka.structs import TopicPartition

    at = TopicPartition(settings.changelog, 0)
    async with reading(settings) as consumer:
        consumer.assign([at])
        await consumer.seek_to_beginning(at)
        async with asyncio.timeout(60):
            while not (consumer.last_stable_offset(at) or 0) > 6:
                await consumer.getmany(at, timeout_ms=200)


async def test_an_output_over_the_topics_limit(kafka: str, prefix: str) -> None:
    settings = deployment(kafka, prefix)
    topic = settings.topic("segment_changes")
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.delete_topics([topic])
    wait_for(lambda: topic not in admin.list_topics(), "the topic to go")
    small = NewTopic(topic, settings.topics.partitions, 1, topic_configs={"max.message.bytes": "2000"})
    admin.create_topics([small], wait_for_metadata=True)
    admin.close()
    publisher = Publisher(settings, 0)
    await publisher.start()
    with pytest.raises(TransactionError, match="MessageSizeTooLarge"):
        await publisher.commit(flush(1, outputs={(topic, 0): [(b"k", b"v" * 10_000, [])]}))
    assert await committed(settings, settings.changelog) == []  # aborted, not left open
    await publisher.stop()
    again = Publisher(settings, 0)
    await again.start()
    large = flush(1, size=MAX_BATCH_BYTES + 100_000)  # a batch of its own
    await again.commit(large)
    assert [key for _, key in await committed(settings, settings.changelog, 2)] == [b"user-0", PROGRESS_KEY]
    await again.stop()
