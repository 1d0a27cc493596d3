"""Sends commands, and control messages for the learner, and waits for their receipts."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from online_models.learner import control_messages
from online_models.learner.control_messages import ControlMessage
from streams.config.settings import Settings
from streams.errors import BrokerError, DataError
from streams.kafka.client_options import aiokafka_options
from streams.kafka.reader import reading
from streams.processing.commands import Command, decode, encode
from streams.processing.partitioner import partitions_of


def erase(settings: Settings, user: str, wait: float) -> dict[str, Any]:
    """The receipt of an erasure: its result is erased, or unknown where there was no such user.

    DataError where the id is none, or no receipt came within `wait` seconds (the command stays and will be carried
    out), BrokerError where no broker answers.
    """
    try:
        key = user.encode()
    except UnicodeEncodeError:  # the command line gives what is no UTF-8 as surrogates
        raise DataError("user_id: not UTF-8") from None
    command = Command("erase", request(), user_id=user)
    if isinstance(fault := decode(encode(command)), str):
        raise DataError(fault)
    return _command(settings, {int(partitions_of([key], settings.topics.partitions)[0]): (key, command)}, wait)[0]


def advance(settings: Settings, to: int, wait: float) -> list[dict[str, Any]]:
    """The receipts of moving every partition's watermark to a time (ms); errors as with erase()."""
    asked = {number: (b"", Command("advance", request(), to=to)) for number in range(settings.topics.partitions)}
    return _command(settings, asked, wait)


def order(settings: Settings, order: ControlMessage, wait: float) -> dict[str, Any]:
    """The learner's answer to a control message (online_models/learner/control_messages.py); errors as with erase()."""
    record = Sent(settings.topic("training_rows"), 0, control_messages.KEY, control_messages.encode(order))
    partitions = list(range(settings.topics.partitions))
    return asyncio.run(_ask(settings, {order.request_id: record}, partitions, wait))[0]


def request() -> str:
    """A new request's id."""
    return uuid.uuid4().hex


class Sent(NamedTuple):
    topic: str
    partition: int
    key: bytes | None
    value: bytes


def _command(settings: Settings, asked: dict[int, tuple[bytes, Command]], wait: float) -> list[dict[str, Any]]:
    """Receipts of commands, one a partition."""
    topic = settings.topic("commands")
    sent = {
        command.request_id: Sent(topic, partition, key or None, encode(command))
        for partition, (key, command) in asked.items()
    }
    return sorted(asyncio.run(_ask(settings, sent, list(asked), wait)), key=lambda said: said["partition"])


async def _ask(settings: Settings, asked: dict[str, Sent], partitions: list[int], wait: float) -> list[dict[str, Any]]:
    """Send records by request id, and wait for what some partitions of `commands-results` say of each."""
    results = settings.topic("commands_results")
    waiting = set(asked)
    receipts: list[dict[str, Any]] = []
    async with reading(settings) as consumer:
        at = [TopicPartition(results, number) for number in partitions]
        consumer.assign(at)
        await consumer.seek_to_end(*at)
        for tp in at:
            await consumer.position(tp)  # before the command is sent
        producer = AIOKafkaProducer(**aiokafka_options(settings), acks="all", max_request_size=16 << 20)
        try:
            await producer.start()
            try:
                for one in asked.values():
                    await producer.send_and_wait(one.topic, one.value, key=one.key, partition=one.partition)
            finally:
                await producer.stop()
        except KafkaError as error:
            raise BrokerError(f"the command was not taken: {error!r}") from None
        deadline = time.monotonic() + wait
        while waiting:
            if time.monotonic() > deadline:
                topic = next(iter(asked.values())).topic
                raise DataError(
                    f"no receipt within {wait:g} s: does a worker run? The command stays in {topic} and will be "
                    "carried out"
                )
            for records in (await consumer.getmany(*at, timeout_ms=200)).values():
                for record in records:
                    said = msgspec.json.decode(record.value)["data"]
                    if said["request_id"] in waiting:
                        waiting.discard(said["request_id"])
                        receipts.append(said)
    return receipts
