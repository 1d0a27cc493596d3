"""What the tests share: one real broker a session, a prefix of its own for each test's topics."""

import uuid
from collections.abc import Iterator

import pytest

from streams.broker import Broker


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Apache Kafka, started for the first test that asks for it."""
    with Broker.running(tmp_path_factory.mktemp("shoal")) as broker:
        yield broker.bootstrap


@pytest.fixture
def prefix() -> str:
    """A prefix for topics, groups and transactional ids that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}-"
