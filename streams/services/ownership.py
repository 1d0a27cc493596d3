"""Ownership of a service: the worker that is assigned the only partition of a topic, in a plain consumer group."""

from __future__ import annotations

import asyncio
import os
import socket

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.structs import TopicPartition

from streams.config.settings import Settings
from streams.kafka.client_options import aiokafka_options


def client_id() -> str:
    """The name of this process among the brokers' clients; `shoal status` shows it as the owner."""
    return f"shoal-{socket.gethostname()}-{os.getpid()}"


def group_member(settings: Settings, name: str, offset_reset: str = "earliest") -> AIOKafkaConsumer:
    """A consumer, not started, of the deployment's group of that name. It never commits offsets."""
    return AIOKafkaConsumer(
        **aiokafka_options(settings),
        group_id=f"{settings.prefix}{settings.application}-{name}",
        client_id=client_id(),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset=offset_reset,
        session_timeout_ms=int(settings.state.session_timeout * 1000),
        heartbeat_interval_ms=int(settings.state.session_timeout * 1000 / 4),
    )


class Ownership(ConsumerRebalanceListener):
    """Whether the partition is assigned to this process.

    generation: changes with each revocation, so a service can tell that its state is of an earlier ownership. lock: a
    service publishes while it holds the lock, and a revocation waits for that.
    """

    def __init__(self) -> None:
        self.owned, self.generation, self.lock = False, 0, asyncio.Lock()

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        async with self.lock:
            self.owned = False
            self.generation += 1

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        self.owned = bool(assigned)
