"""The ACLs of each role, as docs/how-to/security.md lists them (`test_acls` compares the two): the test of a secured
broker grants these and no others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from kafka.errors import NoError

from tests.processes import wait_for


class Grant(NamedTuple):
    """One line of the table. A name that ends in * is a prefix."""

    role: str
    resource: str  # topic, group, transactional id
    name: str
    operations: tuple[str, ...]


SOURCES = ("clickstream", "purchases")
OUTPUTS = ("segment-changes", "segments", "alerts", "segment-lineage", "dead-letters")
INTERNAL = ("training-rows", "models", "shoal-state-changelog")


def _topics(role: str, names: Iterable[str], *operations: str) -> list[Grant]:
    return [Grant(role, "topic", name, operations) for name in names]


GRANTS: tuple[Grant, ...] = (
    *_topics("worker", SOURCES, "Read", "DescribeConfigs"),
    *_topics("worker", ("commands",), "Read", "DescribeConfigs"),
    *_topics("worker", (*OUTPUTS, "commands-results"), "Write", "DescribeConfigs"),
    *_topics("worker", INTERNAL, "Read", "Write", "DescribeConfigs"),
    Grant("worker", "group", "shoal", ("Read",)),
    Grant("worker", "group", "shoal-learner", ("Read",)),
    Grant("worker", "transactional id", "shoal-state-*", ("Write",)),
    Grant("worker", "transactional id", "shoal-learner-0", ("Write",)),
    *_topics("shop", SOURCES, "Write"),
    *_topics("reader", OUTPUTS[:4], "Read"),
    Grant("reader", "group", "its own", ("Read",)),
    *_topics("operator", SOURCES, "Create", "Write", "DescribeConfigs"),
    *_topics("operator", ("commands",), "Create", "Write", "DescribeConfigs"),
    *_topics("operator", ("commands-results",), "Create", "Read", "DescribeConfigs"),
    *_topics("operator", OUTPUTS[:3], "Create", "Describe", "DescribeConfigs"),
    *_topics("operator", OUTPUTS[3:4], "Create", "Read", "DescribeConfigs"),
    *_topics("operator", OUTPUTS[4:], "Create", "Read", "Write", "DescribeConfigs"),
    *_topics("operator", INTERNAL[:1], "Create", "Read", "Write", "DescribeConfigs"),
    *_topics("operator", INTERNAL[1:], "Create", "Read", "DescribeConfigs"),
    Grant("operator", "group", "shoal", ("Describe",)),
    Grant("operator", "transactional id", "shoal-sent-back", ("Write",)),
)

_TYPES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}


def _operation(name: str) -> ACLOperation:
    return ACLOperation["DESCRIBE_CONFIGS" if name == "DescribeConfigs" else name.upper()]


def _kind(name: str) -> ACLResourcePatternType:
    return ACLResourcePatternType.PREFIXED if name.endswith("*") else ACLResourcePatternType.LITERAL


def grant(admin: KafkaAdminClient, grants: Iterable[Grant], prefix: str) -> None:
    """Allow each role (a user of that name) what its lines say, names behind the prefix."""
    acls = [
        ACL(
            f"User:{one.role}",
            "*",
            _operation(operation),
            ACLPermissionType.ALLOW,
            ResourcePattern(_TYPES[one.resource], prefix + one.name.rstrip("*"), _kind(one.name)),
        )
        for one in grants
        for operation in one.operations
    ]
    failed = admin.create_acls(acls)["failed"]
    assert not failed, failed
    # The controller answers before the broker has applied what it wrote.
    wait_for(lambda: all(_described(admin, acl) for acl in acls), "the ACLs")


def _described(admin: KafkaAdminClient, acl: ACLFilter) -> bool:
    """Whether the broker, which decides by them, has an ACL of that filter."""
    found, error = admin.describe_acls(acl)
    assert error is NoError, error
    return bool(found)


def revoke(admin: KafkaAdminClient, one: Grant, operation: str, prefix: str) -> None:
    """Take one operation of one line away."""
    pattern = ResourcePatternFilter(_TYPES[one.resource], prefix + one.name.rstrip("*"), _kind(one.name))
    acl = ACLFilter(f"User:{one.role}", "*", _operation(operation), ACLPermissionType.ALLOW, pattern)
    ((_, gone, _),) = admin.delete_acls([acl])
    assert len(gone) == 1, gone
    wait_for(lambda: not _described(admin, acl), "the end of the ACL")
