"""Checks before a start that the broker's ACLs allow what a worker does.

Without this check a missing ACL shows late or not at all: some Kafka clients retry for ever when they are refused.
"""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    KafkaError,
    NotCoordinatorError,
)

from streams.config.settings import Settings
from streams.errors import BrokerError
from streams.kafka.connectivity import administering

COORDINATOR_SECONDS = 30.0  # a new cluster creates the topic of group offsets at the first request for a coordinator


def required_operations(settings: Settings) -> dict[str, set[str]]:
    """The operations that a worker needs on each topic (READ, WRITE), by the topic's name."""
    inputs = (*settings.source_topics, settings.topic("commands"))
    output_keys = ("segment_changes", "segments", "alerts", "dead_letters", "commands_results", "segment_lineage")
    outputs = [settings.topic(key) for key in output_keys]
    internal = (settings.topic("training_rows"), settings.topic("models"), settings.changelog)
    return (
        {name: {"READ"} for name in inputs}
        | {name: {"WRITE"} for name in outputs}
        | {name: {"READ", "WRITE"} for name in internal}
    )


def check(settings: Settings) -> None:
    """Check the ACLs of all topics, which must exist, and of the two consumer groups.

    BrokerError names each topic and group on which this user lacks an operation.
    """
    missing: list[str] = []
    with administering(settings) as admin:
        required = required_operations(settings)
        for topic in admin.describe_topics(sorted(required)):
            allowed = topic["authorized_operations"]  # None where the broker does not report them
            lacking = set() if allowed is None else required[topic["name"]] - set(allowed)
            if lacking:
                missing.append(f"{' and '.join(sorted(lacking)).lower()} topic {topic['name']}")
        workers = f"{settings.prefix}{settings.application}"
        missing += [f"read group {group}" for group in (workers, f"{workers}-learner") if not _may_join(admin, group)]
    if missing:
        raise BrokerError(
            f"the brokers do not allow this user to {', '.join(missing)}: ACLs are missing (docs/how-to/security.md)"
        )


def _may_join(admin: KafkaAdminClient, group: str) -> bool:
    try:
        allowed = describe_group(admin, group)["authorized_operations"]  # None for a group without members
    except GroupAuthorizationFailedError:
        return False
    except KafkaError as error:
        raise BrokerError(f"group {group}: {error}") from None
    return allowed is None or "READ" in allowed


def describe_group(admin: KafkaAdminClient, group: str) -> dict[str, Any]:
    """A consumer group as its coordinator describes it.

    Waits up to COORDINATOR_SECONDS for a coordinator. KafkaError where the group cannot be described.
    """
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        try:
            description: dict[str, Any] = admin.describe_groups([group])[group]
            return description
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
