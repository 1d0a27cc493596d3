"""The text of the embedded broker's server.properties. No IO."""

import base64
from collections.abc import Mapping
from pathlib import Path

MAX_MESSAGE_BYTES = 8 * 1024 * 1024  # eight times Kafka's default, because a flush of many rows is one batch
LIST_SETTINGS = ("listeners", "advertised.listeners", "listener.security.protocol.map")
NO_AGE_LIMIT_MS = 2**63 - 1  # a replay writes records with timestamps of 2016 or 2019


def cluster_id(random: bytes) -> str:
    """16 random bytes → a UUID in Kafka's form: 22 characters. It must not begin with "-", the mark of an option."""
    text = base64.urlsafe_b64encode(random).decode().rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text


def server_properties(data: Path, port: int, controller_port: int, overrides: Mapping[str, str]) -> str:
    """server.properties of one node that is broker and controller, on loopback, with its logs in data/logs.

    overrides: replace settings of the same name, or are added. Those in LIST_SETTINGS are appended to the value here,
    for a further listener. ValueError for a line break in a setting.
    """
    listeners = f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "listeners": listeners,
        "advertised.listeners": listeners,
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data / "logs"),
        "auto.create.topics.enable": "false",
        # one node, so no replication
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
        # short rebalances
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # old records, large batches
        "log.retention.ms": "-1",
        "log.message.timestamp.before.max.ms": str(NO_AGE_LIMIT_MS),
        "log.message.timestamp.after.max.ms": str(NO_AGE_LIMIT_MS),
        "message.max.bytes": str(MAX_MESSAGE_BYTES),
        "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
        # for a small machine: the default allocates 128 MiB of heap
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
    }
    settings |= {
        name: f"{settings[name]},{value}" if name in LIST_SETTINGS else value for name, value in overrides.items()
    }
    for name, value in settings.items():
        if "\n" in name + value or "\r" in name + value:
            raise ValueError(f"line break in the broker setting {name!r}")
    # a backslash is an escape character in a properties file
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in settings.items())
