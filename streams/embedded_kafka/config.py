"""The configuration of the embedded broker, as text. No IO."""

import base64
from collections.abc import Mapping
from pathlib import Path

MAX_MESSAGE_BYTES = 8 * 1024 * 1024  # eight times Kafka's: a flush of many rows is one batch
LISTS = ("listeners", "advertised.listeners", "listener.security.protocol.map")
ANY_AGE_MS = 2**63 - 1  # Kafka's "no limit": a replay stamps its records with the time of 2016 or 2019


def cluster_id(random: bytes) -> str:
    """16 random bytes → Kafka's form of a UUID, 22 characters, the first no "-" (an option's mark)."""
    text = base64.urlsafe_b64encode(random).decode().rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text


def server_properties(data: Path, port: int, controller_port: int, overrides: Mapping[str, str]) -> str:
    """server.properties of one node, broker and controller in one, on loopback, with its logs in data/logs.

    overrides replace lines of the same name, others join; those of LISTS go on where ours end (a further listener).
    Raises ValueError for a line break in one.
    """
    listeners = f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"
    lines = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "listeners": listeners,
        "advertised.listeners": listeners,
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data / "logs"),
        "auto.create.topics.enable": "false",
        # one node: nothing to replicate to
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        # members come and go at once
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # old data, large batches
        "log.retention.ms": "-1",
        "log.message.timestamp.before.max.ms": str(ANY_AGE_MS),
        "log.message.timestamp.after.max.ms": str(ANY_AGE_MS),
        "message.max.bytes": str(MAX_MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
        # a small machine: the default takes 128 MiB of the heap at once
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
    }
    lines |= {name: f"{lines[name]},{value}" if name in LISTS else value for name, value in overrides.items()}
    for name, value in lines.items():
        if "\n" in name + value or "\r" in name + value:
            raise ValueError(f"a line break in the broker's setting {name!r}")
    # a properties file takes a backslash for an escape
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in lines.items())
