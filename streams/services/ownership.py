"""One of all workers: whoever gets the one partition of a topic in a plain consumer group, beside Faust's."""

from __future__ import annotations

import asyncio
import os
import socket

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.structs import TopicPartition

from streams.config.settings import Settings
from streams.kafka.client_options import aiokafka_options


def client_id() -> str:
    """The worker's name among the brokers' clients: the owner that `shoal status` names."""
    return f"shoal-{socket.gethostname()}-{os.getpid()}"


def member(settings: Settings, name: str, reset: str = "earliest") -> AIOKafkaConsumer:
    """A member of the deployment's group of that name, not started; nothing starts from the group's offsets."""
    return AIOKafkaConsumer(
        **aiokafka_options(settings),
        group_id=f"{settings.prefix}{settings.application}-{name}",
        client_id=client_id(),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset=reset,
        session_timeout_ms=int(settings.state.session_timeout * 1000),
        heartbeat_interval_ms=int(settings.state.session_timeout * 1000 / 4),
    )


class Ownership(ConsumerRebalanceListener):
    """Whether the partition is this worker's; a revoke waits for what is being published under the lock."""

    def __init__(self) -> None:
        self.owned, self.generation, self.lock = False, 0, asyncio.Lock()

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        async with self.lock:
            self.owned = False
            self.generation += 1

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        self.owned = bool(assigned)
