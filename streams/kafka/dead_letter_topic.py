"""The topic of dead letters: read, and repaired letters sent back to their sources.

Repaired records and receipts (records of the same topic that name the letter) go in one transaction: what was sent
back is known for as long as its letter lies there, and is not sent again.
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
from streams.kafka.dead_letter_records import SENT_BACK, Back, Keep, Letter, judge, letter, line, parse
from streams.kafka.reader import reading, to_end
from streams.processing.partitioner import placed
from streams.runtime.fatal_errors import authorization_error
from streams.runtime.publisher import transactional_producer
from streams.schemas.flat_json import Schema

CHUNK = 500  # records a transaction
SHOWN = 20  # faults told of a file


async def read(settings: Settings, since: int | None = None) -> AsyncIterator[Letter | str]:
    """Letters, and idents of those that were sent back, partition by partition, up to the ends found at the start.

    since: ms; what was written before is left out. TopicsError where there is no such topic.
    """
    topic = settings.topic("dead_letters")
    async with reading(settings) as consumer:
        if topic not in await consumer.topics():
            raise TopicsError(f"missing: {topic}")
        tps = [TopicPartition(topic, number) for number in range(settings.topics.partitions)]
        consumer.assign(tps)
        starts = await consumer.beginning_offsets(tps)
        if since is not None:
            found = await consumer.offsets_for_times(dict.fromkeys(tps, since))
            ends = await consumer.end_offsets(tps)
            starts = {tp: found[tp].offset if found[tp] else ends[tp] for tp in tps}
        async for r in to_end(consumer, starts):
            one = letter(r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
            if one is not None:
                yield one


async def send_back(settings: Settings, path: Path) -> tuple[int, int]:
    """Send the lines of a repaired export to their sources: how many were sent, how many had been sent back before.

    DataError names the lines that cannot be sent and why; then none is sent. TransactionError where sending failed:
    what was committed is not sent again.
    """
    try:
        with path.open("rb") as file:
            lines, faults = parse(file)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    wanted = {one.letter for one in lines.values()}
    producer = transactional_producer(settings, "sent-back")
    try:
        await producer.start()  # before the topic is read: whoever sends at the same time is fenced off, or is seen
        letters: dict[str, Letter] = {}
        before: set[str] = set()
        async for one in read(settings):
            if isinstance(one, str):
                before.add(one)
            elif one.ident in wanted:
                letters[one.ident] = one
        new = {number: one for number, one in lines.items() if one.letter not in before}
        good, bad = judge(new, letters, schemas(settings), int(time.time() * 1000))
        if faults | bad:
            raise DataError(f"{path}: nothing was sent{_told(faults | bad)}")
        for start in range(0, len(good), CHUNK):
            await _send(settings, producer, good[start : start + CHUNK])
    except KafkaConnectionError:
        raise await unreachable(settings) from None
    except (KafkaError, IllegalOperation) as error:
        raise authorization_error(error) or TransactionError(f"sending back failed: {error!r}") from None
    finally:
        await producer.stop()
    return len(good), len(lines) - len(new)


def schemas(settings: Settings) -> dict[str, Schema]:
    """Of the topics whose letters can be sent back: the sources, and what they are re-keyed from."""
    found: dict[str, Schema] = {}
    for source in settings.sources:
        found[settings.prefix + source.name] = schema_of(source, settings)
        if source.rekey_from is not None:
            found[source.rekey_from] = found[settings.prefix + source.name]
    return found


def _told(faults: dict[int, str]) -> str:
    shown = [f"\n  line {number}: {why}" for number, why in sorted(faults.items())[:SHOWN]]
    return "".join(shown) + (f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else "")


async def _send(settings: Settings, producer: AIOKafkaProducer, records: Sequence[Back]) -> None:
    """One transaction: the records where Kafka's default partitioner places their keys, and their receipts."""
    topics = {one.letter.topic for one in records}
    counts = {topic: len(await producer.partitions_for(topic)) for topic in topics}
    async with producer.transaction():
        sent = []
        for one in records:
            mark = [("shoal-" + SENT_BACK, one.letter.ident.encode())]
            at = int(placed([one.key], counts[one.letter.topic])[0])
            sent.append(await producer.send(one.letter.topic, one.value, one.key, at, headers=mark))
        for one, place in zip(records, await asyncio.gather(*sent), strict=True):
            receipt = {
                SENT_BACK: one.letter.ident,
                "topic": place.topic,
                "partition": place.partition,
                "offset": place.offset,
            }
            headers = [(name, str(what).encode()) for name, what in receipt.items()]
            await producer.send(settings.topic("dead_letters"), b"", None, one.letter.partition, headers=headers)


def newest(letters: Iterable[Letter], limit: int | None) -> list[Letter]:
    """The newest ones, newest last."""
    ordered = sorted(letters, key=lambda one: (one.time, one.partition, one.offset))
    return ordered if limit is None else ordered[-limit:]


async def gather(
    settings: Settings, keep: Keep, *, since: int | None = None, limit: int | None = None, bodies: bool = True
) -> tuple[list[Letter], set[str]]:
    """Letters that keep says are wanted, newest last, the newest `limit` alone where that is given; and the idents of
    those that were sent back. bodies: with their keys and values."""
    letters: list[Letter] = []
    back: set[str] = set()
    async for one in read(settings, since):
        if isinstance(one, str):
            back.add(one)
        elif keep(one):
            letters.append(one if bodies else replace(one, key=None, value=None))
            if limit is not None and len(letters) > 2 * limit + 1_000:
                letters = newest(letters, limit)
    return newest(letters, limit), back


async def export(settings: Settings, path: Path, keep: Keep, *, since: int | None = None) -> int:
    """Write the wanted letters that were not sent back yet as JSON lines to a new file that its owner alone may read.

    How many. DataError where the file is there or cannot be written.
    """
    back = {one async for one in read(settings, since) if isinstance(one, str)}
    count = 0
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            async for one in read(settings, since):
                if isinstance(one, Letter) and keep(one) and one.ident not in back:
                    file.write(msgspec.json.encode(line(one)) + b"\n")
                    count += 1
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    return count
