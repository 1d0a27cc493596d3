"""All that a run has left on the broker, read once: what the verifier looks at, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from online_models.version import Version, loads
from streams import progress
from streams.models import reader
from streams.progress import PROGRESS_KEY, Progress
from streams.security import aiokafka_options
from streams.settings import Settings
from tests.faults.generate import TRUTH

Change = dict[str, Any]  # the CloudEvent of a segment change


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
    changes: list[Change]  # as a read_committed reader sees them
    any_changes: list[Change]  # as any reader does
    letters: list[tuple[str, int, int, str]]  # dead letters: source topic, partition, offset, reason
    versions: dict[int, Version] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)  # ids of the commands sent
    receipts: list[str] = field(default_factory=list)  # and of those answered


async def read_topic(consumer: AIOKafkaConsumer, topic: str, partitions: int) -> dict[int, list[Any]]:
    """All records of a topic, up to the ends found at the start."""
    tps = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(tps)
    await consumer.seek_to_beginning(*tps)
    ends = await consumer.end_offsets(tps)
    found: dict[int, list[Any]] = {number: [] for number in range(partitions)}
    for tp in tps:
        while await consumer.position(tp) < ends[tp]:
            for records in (await consumer.getmany(tp, timeout_ms=200)).values():
                found[tp.partition] += records
    return found


def _state(
    records: list[Any], topics: tuple[str, ...]
) -> tuple[dict[bytes, bytes], dict[bytes, bytes], list[Progress]]:
    """A partition's rows at the end and when the last record had just been applied, and its progress records."""
    found: dict[int, Progress] = {}
    for i, record in enumerate(records):
        if record.key == PROGRESS_KEY:
            with suppress(Exception):  # planted
                found[i] = progress.loads(record.value)
    standing = list(found.values())

    def at(one: Progress) -> list[int]:
        return [one.sources[topic].offset for topic in topics]

    done = next((i for i, one in found.items() if at(one) == at(standing[-1])), -1)
    rows: dict[bytes, bytes] = {}
    early: dict[bytes, bytes] = {}
    for i, record in enumerate(records):
        if i == done:  # the last record of its transaction
            early = dict(rows)
        if record.key == PROGRESS_KEY:
            continue
        if record.value is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = record.value
    return rows, early, standing


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
        rows: dict[bytes, bytes] = {}
        early: dict[bytes, bytes] = {}
        standing: dict[int, list[Progress]] = {}
        for number, records in (await read_topic(committed, settings.changelog, many)).items():
            last, first, standing[number] = _state(records, settings.source_topics)
            rows |= last
            early |= first
        changes = await read_topic(committed, settings.topic("segment_changes"), many)
        any_changes = await read_topic(everything, settings.topic("segment_changes"), many)
        letters = await read_topic(committed, settings.topic("dead_letters"), many)
        models = await read_topic(committed, settings.topic("models"), 1)
        commands = await read_topic(committed, settings.topic("commands"), many)
        receipts = await read_topic(committed, settings.topic("commands_results"), many)
    finally:
        await committed.stop()
        await everything.stop()
    versions = {int(r.key): loads(r.value) for r in models[0] if r.value is not None}
    return Evidence(
        settings.source_topics, int(settings.lateness * 1000), dict(logs), standing, rows, early,
        [json.loads(r.value) for records in changes.values() for r in records],
        [json.loads(r.value) for records in any_changes.values() for r in records],
        [letter(dict(r.headers)) for records in letters.values() for r in records], versions,
        [json.loads(r.value)["request_id"] for records in commands.values() for r in records],
        [json.loads(r.value)["data"]["request_id"] for records in receipts.values() for r in records],
    )  # fmt: skip


def letter(headers: dict[str, bytes]) -> tuple[str, int, int, str]:
    """Where a dead letter's record lay, and why it was rejected."""
    return (
        headers["topic"].decode(), int(headers["partition"]), int(headers["offset"]), headers["reason"].decode()
    )  # fmt: skip


def gather(settings: Settings) -> Evidence:
    """Everything, once nothing is written any more."""
    return asyncio.run(_gather(settings))
