"""Sends commands to the workers and control messages to the learner, and waits for the answers.

A command goes to the topic `commands`, a control message to `training-rows`. The answer to either is a record in
`commands-results` that has the same request id.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
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


class Request(NamedTuple):
    """A record to send."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


def erase(settings: Settings, user: str, wait: float) -> dict[str, Any]:
    """Erase a user. Returns the receipt, whose `result` is "erased", or "unknown" where there was no such user.

    DataError where the user id is invalid, or no receipt came within `wait` seconds: then the command is still in the
    topic and will be carried out. BrokerError where no broker answers.
    """
    try:
        key = user.encode()
    except UnicodeEncodeError:  # Python gives bytes of the command line that are not UTF-8 as surrogates
        raise DataError("user_id: not UTF-8") from None
    command = Command("erase", new_request_id(), user_id=user)
    if isinstance(fault := decode(encode(command)), str):
        raise DataError(fault)
    partition = int(partitions_of([key], settings.topics.partitions)[0])
    return _send_commands(settings, {partition: (key, command)}, wait)[0]


def advance(settings: Settings, to: int, wait: float) -> list[dict[str, Any]]:
    """Move the watermark of each partition to a time (ms). Returns a receipt per partition; errors as in erase()."""
    partitions = range(settings.topics.partitions)
    commands = {number: (b"", Command("advance", new_request_id(), to=to)) for number in partitions}
    return _send_commands(settings, commands, wait)


def send_control(settings: Settings, message: ControlMessage, wait: float) -> dict[str, Any]:
    """Send a control message to the learner. Returns the learner's answer; errors as in erase()."""
    record = Request(settings.topic("training_rows"), 0, control_messages.KEY, control_messages.encode(message))
    partitions = list(range(settings.topics.partitions))
    return asyncio.run(_send_and_wait(settings, {message.request_id: record}, partitions, wait))[0]


def new_request_id() -> str:
    """A random request id."""
    return uuid.uuid4().hex


def _send_commands(settings: Settings, commands: dict[int, tuple[bytes, Command]], wait: float) -> list[dict[str, Any]]:
    """Send a command (with its key) to each partition. Returns their receipts, ordered by partition."""
    topic = settings.topic("commands")
    requests = {
        command.request_id: Request(topic, partition, key or None, encode(command))
        for partition, (key, command) in commands.items()
    }
    receipts = asyncio.run(_send_and_wait(settings, requests, list(commands), wait))
    return sorted(receipts, key=lambda receipt: receipt["partition"])


async def _send_and_wait(
    settings: Settings, requests: dict[str, Request], partitions: list[int], wait: float
) -> list[dict[str, Any]]:
    """Send requests, given by request id, and wait for the answer to each in partitions of `commands-results`."""
    results_topic = settings.topic("commands_results")
    async with reading(settings) as consumer:
        tps = [TopicPartition(results_topic, number) for number in partitions]
        consumer.assign(tps)
        await consumer.seek_to_end(*tps)
        for tp in tps:
            await consumer.position(tp)  # the end must be known before a request is sent, or its answer may be missed
        await _send(settings, list(requests.values()))
        return await _receive_answers(consumer, tps, requests, wait)


async def _send(settings: Settings, requests: list[Request]) -> None:
    producer = AIOKafkaProducer(**aiokafka_options(settings), acks="all", max_request_size=16 << 20)
    try:
        await producer.start()
        try:
            for request in requests:
                await producer.send_and_wait(request.topic, request.value, key=request.key, partition=request.partition)
        finally:
            await producer.stop()
    except KafkaError as error:
        raise BrokerError(f"the command could not be sent: {error!r}") from None


async def _receive_answers(
    consumer: AIOKafkaConsumer, tps: list[TopicPartition], requests: dict[str, Request], wait: float
) -> list[dict[str, Any]]:
    """The first answer to each request. DataError where one is missing after `wait` seconds."""
    pending = set(requests)
    answers: list[dict[str, Any]] = []
    deadline = time.monotonic() + wait
    while pending:
        if time.monotonic() > deadline:
            topic = next(iter(requests.values())).topic
            raise DataError(
                f"no receipt within {wait:g} s: does a worker run? The command is in {topic} and will be carried out"
            )
        fetched = await consumer.getmany(*tps, timeout_ms=200)
        for records in fetched.values():
            for record in records:
                answer = msgspec.json.decode(record.value)["data"]
                if answer["request_id"] in pending:
                    pending.discard(answer["request_id"])
                    answers.append(answer)
    return answers
