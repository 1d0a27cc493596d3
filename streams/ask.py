"""Sends commands and waits for their receipts."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streams.commands import Command, decode, encode
from streams.errors import BrokerError, DataError
from streams.partitioner import placed
from streams.reading import reading
from streams.security import aiokafka_options
from streams.settings import Settings


def erase(settings: Settings, user: str, wait: float) -> dict[str, Any]:
    """The receipt of an erasure: its result is erased, or unknown where there was no such user.

    DataError where the id is none, or no receipt came within `wait` seconds (the command stays and will be carried
    out), BrokerError where no broker answers.
    """
    try:
        key = user.encode()
    except UnicodeEncodeError:  # the command line gives what is no UTF-8 as surrogates
        raise DataError("user_id: not UTF-8") from None
    command = Command("erase", _request(), user_id=user)
    if isinstance(fault := decode(encode(command)), str):
        raise DataError(fault)
    partition = int(placed([key], settings.topics.partitions)[0])
    return asyncio.run(_ask(settings, {partition: (key, command)}, wait))[0]


def advance(settings: Settings, to: int, wait: float) -> list[dict[str, Any]]:
    """The receipts of moving every partition's watermark to a time (ms); errors as with erase()."""
    asked = {number: (b"", Command("advance", _request(), to=to)) for number in range(settings.topics.partitions)}
    return asyncio.run(_ask(settings, asked, wait))


def _request() -> str:
    return uuid.uuid4().hex


async def _ask(settings: Settings, asked: dict[int, tuple[bytes, Command]], wait: float) -> list[dict[str, Any]]:
    commands, results = settings.topic("commands"), settings.topic("commands_results")
    waiting = {command.request_id for _, command in asked.values()}
    receipts: list[dict[str, Any]] = []
    async with reading(settings) as consumer:
        at = [TopicPartition(results, number) for number in asked]
        consumer.assign(at)
        await consumer.seek_to_end(*at)
        for tp in at:
            await consumer.position(tp)  # before the command is sent
        producer = AIOKafkaProducer(**aiokafka_options(settings), acks="all")
        try:
            await producer.start()
            try:
                for partition, (key, command) in asked.items():
                    await producer.send_and_wait(commands, encode(command), key=key or None, partition=partition)
            finally:
                await producer.stop()
        except KafkaError as error:
            raise BrokerError(f"the command was not taken: {error!r}") from None
        deadline = time.monotonic() + wait
        while waiting:
            if time.monotonic() > deadline:
                raise DataError(
                    f"no receipt within {wait:g} s: does a worker run? The command stays in {commands} and will be "
                    "carried out"
                )
            for records in (await consumer.getmany(*at, timeout_ms=200)).values():
                for record in records:
                    said = msgspec.json.decode(record.value)["data"]
                    if said["request_id"] in waiting:
                        waiting.discard(said["request_id"])
                        receipts.append(said)
    return sorted(receipts, key=lambda said: said["partition"])
