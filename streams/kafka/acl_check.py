"""What a worker must be allowed, asked of the brokers before it starts: some clients wait for ever where it is not."""

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

COORDINATOR_SECONDS = 30.0  # a new cluster makes the topic of the groups when it is first asked for one


def needed(settings: Settings) -> dict[str, set[str]]:
    """Operations by topic."""
    both = (settings.topic("training_rows"), settings.topic("models"), settings.changelog)
    names = ("segment_changes", "segments", "alerts", "dead_letters", "commands_results", "segment_lineage")
    outputs = map(settings.topic, names)
    read = (*settings.source_topics, settings.topic("commands"))
    return (
        {name: {"READ"} for name in read}
        | {name: {"WRITE"} for name in outputs}
        | {name: {"READ", "WRITE"} for name in both}
    )


def check(settings: Settings) -> None:
    """BrokerError names the topics and groups for which this user lacks an operation. Topics are there."""
    with administering(settings) as admin:
        lacking = []
        wanted = needed(settings)
        for topic in admin.describe_topics(sorted(wanted)):
            has = topic["authorized_operations"]  # None where the brokers do not tell
            if has is not None and (lack := wanted[topic["name"]] - set(has)):
                lacking.append(f"{' and '.join(sorted(lack)).lower()} topic {topic['name']}")
        group = f"{settings.prefix}{settings.application}"
        lacking += [f"read group {name}" for name in (group, f"{group}-learner") if not _may_join(admin, name)]
    if lacking:
        raise BrokerError(
            f"the brokers do not allow this user to {', '.join(lacking)}: ACLs are missing (docs/how-to/security.md)"
        )


def _may_join(admin: KafkaAdminClient, group: str) -> bool:
    try:
        has = described_group(admin, group)["authorized_operations"]  # None for a group without members
    except GroupAuthorizationFailedError:
        return False
    except KafkaError as error:
        raise BrokerError(f"group {group}: {error}") from None
    return has is None or "READ" in has


def described_group(admin: KafkaAdminClient, group: str) -> dict[str, Any]:
    """A group as its coordinator has it; waits for one. KafkaError where it cannot be had."""
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        try:
            found: dict[str, Any] = admin.describe_groups([group])[group]
            return found
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
