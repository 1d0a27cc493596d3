"""Repeated messages of the Kafka clients are logged once a minute."""

from __future__ import annotations

import logging

import pytest

from streams.runtime.logs import ClientFilter


def record(name: str, message: str, *arguments: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, arguments, None)


def test_one_record_of_a_kind_a_minute_and_the_number_of_suppressed_ones() -> None:
    now = 0.0
    client_filter = ClientFilter(lambda: now)
    message = "Unable connect to node with id %s: %s"
    assert client_filter.filter(record("aiokafka", message, 1, "refused"))
    assert [client_filter.filter(record("aiokafka", message, node, "refused")) for node in (1, 2, 3)] == [False] * 3
    assert client_filter.filter(record("aiokafka", "Unable to update metadata from %s", [1]))  # another kind
    now = 60.0
    repeated = record("aiokafka", message, 2, "refused")
    assert client_filter.filter(repeated)
    assert repeated.getMessage() == "Unable connect to node with id 2: refused (3 more of this kind since the last one)"
    assert not client_filter.filter(record("aiokafka", message, 2, "refused"))


def test_other_loggers_and_level_info_always_pass() -> None:
    client_filter = ClientFilter(lambda: 0.0)
    assert all(client_filter.filter(record("streams.transport.batch_transport", "reading again")) for _ in range(3))
    assert all(client_filter.filter(record("aiokafka", "joined", level=logging.INFO)) for _ in range(3))


@pytest.mark.parametrize(("level", "passes"), [(logging.INFO, True), (logging.WARNING, False)])
def test_a_commit_of_a_lost_generation_is_information(level: int, passes: bool) -> None:
    root, before = logging.getLogger(), logging.getLogger().level
    root.setLevel(level)
    try:
        client_filter = ClientFilter(lambda: 0.0)
        lost = "OffsetCommit failed for group %s due to group error (%s), will rejoin"
        first = record("aiokafka.consumer.group_coordinator", lost, "shop-shoal", "IllegalGenerationError")
        assert client_filter.filter(first) is passes
        assert first.levelname == "INFO"
        assert not client_filter.filter(record("aiokafka.consumer.group_coordinator", lost, "shop-shoal", "again"))
    finally:
        root.setLevel(before)
