"""The topic of dead letters: read, and repaired records sent back to their sources.

Repaired records and receipts (records of the same topic that name the dead letter) go in one transaction: what was sent
back is known for as long as its dead letter is in the topic, and is not sent again.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaConnectionError, KafkaError
from aiokafka.structs import TopicPartition

from streams.config.factories import schema_of
from streams.config.settings import Settings
from streams.errors import DataError, TopicsError, TransactionError
from streams.kafka.connectivity import unreachable
from streams.kafka.dead_letter_records import (
    SENT_BACK,
    DeadLetter,
    RepairedRecord,
    Wanted,
    check_repaired,
    from_record,
    parse_export,
    to_json,
)
from streams.kafka.reader import reading, to_end
from streams.processing.partitioner import partitions_of
from streams.runtime.fatal_errors import authorization_error
from streams.runtime.publisher import transactional_producer
from streams.schemas.schema import Schema

CHUNK = 500  # records a transaction
SHOWN_FAULTS = 20  # of a file


async def read(settings: Settings, since: int | None = None) -> AsyncIterator[DeadLetter | str]:
    """Dead letters, and idents of those that were sent back, partition by partition, up to the ends found at the start.

    since: ms; what was written before is left out. TopicsError where there is no such topic.
    """
    topic = settings.topic("dead_letters")
    async with reading(settings) as consumer:
        if topic not in await consumer.topics():
            raise TopicsError(f"missing: {topic}")
        partitions = [TopicPartition(topic, number) for number in range(settings.topics.partitions)]
        consumer.assign(partitions)
        starts = await consumer.beginning_offsets(partitions)
        if since is not None:
            by_time = await consumer.offsets_for_times(dict.fromkeys(partitions, since))
            ends = await consumer.end_offsets(partitions)
            starts = {tp: by_time[tp].offset if by_time[tp] else ends[tp] for tp in partitions}
        async for record in to_end(consumer, starts):
            letter = from_record(
                record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
            )
            if letter is not None:
                yield letter


async def send_back(settings: Settings, path: Path) -> tuple[int, int]:
    """Send the lines of a repaired export to their sources: how many were sent, how many had been sent back before.

    DataError names the lines that cannot be sent and why; then none is sent. TransactionError where sending failed:
    what was committed is not sent again.
    """
    try:
        with path.open("rb") as file:
            lines, faults = parse_export(file)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    idents = {line.letter for line in lines.values()}
    producer = transactional_producer(settings, "sent-back")
    try:
        await producer.start()  # before the topic is read: whoever sends at the same time is fenced off, or is seen
        letters: dict[str, DeadLetter] = {}
        sent_before: set[str] = set()
        async for letter in read(settings):
            if isinstance(letter, str):
                sent_before.add(letter)
            elif letter.ident in idents:
                letters[letter.ident] = letter
        new_lines = {number: line for number, line in lines.items() if line.letter not in sent_before}
        records, rejected = check_repaired(new_lines, letters, schemas(settings), int(time.time() * 1000))
        faults |= rejected
        if faults:
            raise DataError(f"{path}: nothing was sent{_fault_list(faults)}")
        for start in range(0, len(records), CHUNK):
            await _send(settings, producer, records[start : start + CHUNK])
    except KafkaConnectionError:
        raise await unreachable(settings) from None
    except (KafkaError, IllegalOperation) as error:
        raise authorization_error(error) or TransactionError(f"sending back failed: {error!r}") from None
    finally:
        await producer.stop()
    return len(records), len(lines) - len(new_lines)


def schemas(settings: Settings) -> dict[str, Schema]:
    """Schemas by the topics whose records can be sent back: the sources, and what they are repartitioned from."""
    by_topic: dict[str, Schema] = {}
    for source in settings.sources:
        schema = by_topic[settings.prefix + source.name] = schema_of(source, settings)
        if source.rekey_from is not None:
            by_topic[source.rekey_from] = schema
    return by_topic


def _fault_list(faults: dict[int, str]) -> str:
    shown = [f"\n  line {number}: {fault}" for number, fault in sorted(faults.items())[:SHOWN_FAULTS]]
    return "".join(shown) + (f"\n  and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else "")


async def _send(settings: Settings, producer: AIOKafkaProducer, records: Sequence[RepairedRecord]) -> None:
    """One transaction: the records where Kafka's default partitioner places their keys, and their receipts."""
    topics = {record.letter.topic for record in records}
    counts = {topic: len(await producer.partitions_for(topic)) for topic in topics}
    async with producer.transaction():
        pending = []
        for record in records:
            topic = record.letter.topic
            headers = [("shoal-" + SENT_BACK, record.letter.ident.encode())]
            partition = int(partitions_of([record.key], counts[topic])[0])
            pending.append(await producer.send(topic, record.value, record.key, partition, headers=headers))
        for record, sent in zip(records, await asyncio.gather(*pending), strict=True):
            receipt = {
                SENT_BACK: record.letter.ident,
                "topic": sent.topic,
                "partition": sent.partition,
                "offset": sent.offset,
            }
            headers = [(name, str(value).encode()) for name, value in receipt.items()]
            await producer.send(settings.topic("dead_letters"), b"", None, record.letter.partition, headers=headers)


def newest(letters: Iterable[DeadLetter], limit: int | None) -> list[DeadLetter]:
    """The newest ones, newest last; all where limit is None."""
    ordered = sorted(letters, key=lambda letter: (letter.time, letter.partition, letter.offset))
    return ordered if limit is None else ordered[-limit:]


async def gather(
    settings: Settings, wanted: Wanted, *, since: int | None = None, limit: int | None = None, bodies: bool = True
) -> tuple[list[DeadLetter], set[str]]:
    """Dead letters that are wanted, newest last, the newest `limit` alone where that is given; and the idents of those
    that were sent back. bodies: with their keys and values."""
    letters: list[DeadLetter] = []
    sent_back: set[str] = set()
    async for letter in read(settings, since):
        if isinstance(letter, str):
            sent_back.add(letter)
        elif wanted(letter):
            letters.append(letter if bodies else replace(letter, key=None, value=None))
            if limit is not None and len(letters) > 2 * limit + 1_000:
                letters = newest(letters, limit)
    return newest(letters, limit), sent_back


async def export(settings: Settings, path: Path, wanted: Wanted, *, since: int | None = None) -> int:
    """Write the wanted dead letters that were not sent back yet as JSON lines to a new file that its owner alone may
    read.

    How many. DataError where the file exists or cannot be written.
    """
    sent_back = {letter async for letter in read(settings, since) if isinstance(letter, str)}
    count = 0
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            async for letter in read(settings, since):
                if isinstance(letter, DeadLetter) and wanted(letter) and letter.ident not in sent_back:
                    file.write(msgspec.json.encode(to_json(letter)) + b"\n")
                    count += 1
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    return count
