"""All that a run has left on the broker, read once: what the verifier looks at, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from online_models.version import Version, loads
from streams.config.settings import Settings
from streams.kafka.client_options import aiokafka_options
from streams.kafka.reader import reader, to_end
from streams.processing import progress
from streams.processing.progress import PROGRESS_KEY, Progress
from tests.support.events.squeezed_month import TRUTH


class Move(NamedTuple):
    """A segment change, as a reader sees it."""

    ident: str
    user: str
    seq: int
    frm: int | None
    to: int | None
    cause: str
    as_of: int  # ms
    version: int


@dataclass(slots=True)
class Logged:
    """A record as it lies in a source."""

    offset: int
    value: bytes | None
    reason: str  # for which it is to be rejected; "" where it is to be accepted
    key: bytes | None = None


@dataclass(slots=True)
class Evidence:
    """Per partition unless said otherwise; records in log order."""

    sources: tuple[str, ...]
    lateness: int  # ms
    logs: dict[int, list[list[Logged]]]  # by source
    progress: dict[int, list[Progress]]
    rows: dict[bytes, bytes]  # the last of each user
    early: dict[bytes, bytes]  # those of the flush with which a partition's last record was applied
    changes: list[Move]  # as a read_committed reader sees them
    any_changes: list[Move]  # as any reader does
    letters: list[tuple[str, int, int, str]]  # dead letters: source topic, partition, offset, reason
    versions: dict[int, Version] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)  # ids of the commands sent
    receipts: list[str] = field(default_factory=list)  # and of those answered
    ids: list[str] = field(default_factory=list)  # of alerts, as a read_committed reader sees them


async def records_of(consumer: AIOKafkaConsumer, topic: str, partitions: int) -> AsyncIterator[tuple[int, Any]]:
    """All records of a topic with their partition, one partition after the other, up to the ends found at the start."""
    for number in range(partitions):
        tp = TopicPartition(topic, number)
        consumer.assign([tp])
        async for record in to_end(consumer, await consumer.beginning_offsets([tp])):
            yield number, record


async def read_topic(consumer: AIOKafkaConsumer, topic: str, partitions: int) -> dict[int, list[Any]]:
    """The same, kept."""
    found: dict[int, list[Any]] = {number: [] for number in range(partitions)}
    async for number, record in records_of(consumer, topic, partitions):
        found[number].append(record)
    return found


async def _moves(consumer: AIOKafkaConsumer, topic: str, partitions: int) -> list[Move]:
    return [moved(json.loads(record.value)) async for _, record in records_of(consumer, topic, partitions)]


def moved(change: dict[str, Any]) -> Move:
    """A transition as its CloudEvent tells it."""
    data: dict[str, Any] = change["data"]
    as_of = round(datetime.fromisoformat(data["as_of"]).timestamp() * 1000)
    return Move(
        change["id"], data["user"], data["seq"], data["from"], data["to"], data["cause"], as_of, data["model_version"]
    )


async def _state(
    consumer: AIOKafkaConsumer, topic: str, partitions: int, sources: tuple[str, ...]
) -> tuple[dict[bytes, bytes], dict[bytes, bytes], dict[int, list[Progress]]]:
    """Rows at the end and when a partition's last record had just been applied, and the progress records.

    The changelog is read twice, for it may hold a million rows several times.
    """
    standing: dict[int, list[Progress]] = {number: [] for number in range(partitions)}
    done: dict[int, int] = {}  # offset of the first progress record that stands where the last one does
    async for number, record in records_of(consumer, topic, partitions):
        if record.key == PROGRESS_KEY:
            with suppress(Exception):  # planted
                now = progress.loads(record.value)
                before = standing[number][-1] if standing[number] else None
                if before is None or any(now.sources[s].offset != before.sources[s].offset for s in sources):
                    done[number] = record.offset
                standing[number].append(now)
    rows: dict[bytes, bytes] = {}
    early: dict[bytes, bytes] = {}
    mine: dict[bytes, bytes] = {}
    last = -1
    async for number, record in records_of(consumer, topic, partitions):
        if number != last:
            rows |= mine
            mine, last = {}, number
        if record.offset == done.get(number):  # the last record of its transaction
            early |= mine
        if record.key == PROGRESS_KEY:
            continue
        if record.value is None:
            mine.pop(record.key, None)
        else:
            mine[record.key] = record.value
    return rows | mine, early, standing


async def _gather(settings: Settings) -> Evidence:
    many = settings.topics.partitions
    committed = reader(settings)
    everything = AIOKafkaConsumer(**aiokafka_options(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    await committed.start()
    await everything.start()
    try:
        logs: dict[int, list[list[Logged]]] = defaultdict(list)
        for topic in settings.source_topics:
            for number, records in (await read_topic(committed, topic, many)).items():
                logs[number].append(
                    [Logged(r.offset, r.value, dict(r.headers).get(TRUTH, b"").decode(), r.key) for r in records]
                )
        rows, early, standing = await _state(committed, settings.changelog, many, settings.source_topics)
        changes = await _moves(committed, settings.topic("segment_changes"), many)
        any_changes = await _moves(everything, settings.topic("segment_changes"), many)
        alerts = await read_topic(committed, settings.topic("alerts"), many)
        letters = await read_topic(committed, settings.topic("dead_letters"), many)
        models = await read_topic(committed, settings.topic("models"), 1)
        commands = await read_topic(committed, settings.topic("commands"), many)
        receipts = await read_topic(committed, settings.topic("commands_results"), many)
    finally:
        await committed.stop()
        await everything.stop()
    versions = {int(r.key): loads(r.value) for r in models[0] if r.value is not None}
    return Evidence(
        settings.source_topics,
        int(settings.lateness * 1000),
        dict(logs),
        standing,
        rows,
        early,
        changes,
        any_changes,
        [letter(dict(r.headers)) for records in letters.values() for r in records],
        versions,
        [json.loads(r.value)["request_id"] for records in commands.values() for r in records],
        [json.loads(r.value)["data"]["request_id"] for records in receipts.values() for r in records],
        [json.loads(r.value)["id"] for records in alerts.values() for r in records],
    )


def letter(headers: dict[str, bytes]) -> tuple[str, int, int, str]:
    """Where a dead letter's record lay, and why it was rejected."""
    return (headers["topic"].decode(), int(headers["partition"]), int(headers["offset"]), headers["reason"].decode())


def gather(settings: Settings) -> Evidence:
    """Everything, once nothing is written any more."""
    return asyncio.run(_gather(settings))
