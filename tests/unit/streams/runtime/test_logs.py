"""What the clients say again and again is logged once a minute."""

from __future__ import annotations

import logging

import pytest

from streams.runtime.logs import ClientFilter


def record(name: str, message: str, *arguments: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, arguments, None)


def test_one_of_a_kind_a_minute_and_how_many_were_left_out() -> None:
    now = 0.0
    kept = ClientFilter(lambda: now)
    tried = "Unable connect to node with id %s: %s"
    assert kept.filter(record("aiokafka", tried, 1, "refused"))
    assert [kept.filter(record("aiokafka", tried, node, "refused")) for node in (1, 2, 3)] == [False] * 3
    assert kept.filter(record("aiokafka", "Unable to update metadata from %s", [1]))  # another kind
    now = 60.0
    again = record("aiokafka", tried, 2, "refused")
    assert kept.filter(again)
    assert again.getMessage() == "Unable connect to node with id 2: refused (3 more of this kind since the last one)"
    assert not kept.filter(record("aiokafka", tried, 2, "refused"))


def test_the_project_and_information_pass_always() -> None:
    kept = ClientFilter(lambda: 0.0)
    assert all(kept.filter(record("streams.transport.batch_transport", "reading again")) for _ in range(3))
    assert all(kept.filter(record("aiokafka", "joined", level=logging.INFO)) for _ in range(3))


@pytest.mark.parametrize(("level", "passes"), [(logging.INFO, True), (logging.WARNING, False)])
def test_a_commit_of_a_lost_generation_is_information(level: int, passes: bool) -> None:
    root, before = logging.getLogger(), logging.getLogger().level
    root.setLevel(level)
    try:
        kept = ClientFilter(lambda: 0.0)
        lost = "OffsetCommit failed for group %s due to group error (%s), will rejoin"
        first = record("aiokafka.consumer.group_coordinator", lost, "shop-shoal", "IllegalGenerationError")
        assert kept.filter(first) is passes
        assert first.levelname == "INFO"
        assert not kept.filter(record("aiokafka.consumer.group_coordinator", lost, "shop-shoal", "again"))
    finally:
        root.setLevel(before)
