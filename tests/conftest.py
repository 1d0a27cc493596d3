"""What all tests share: one real broker a session, a prefix of its own for each test's topics."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.broker import shared_broker

# an example that takes long beside other work on the cores is no failure
hypothesis.settings.register_profile("shoal", deadline=None)
hypothesis.settings.load_profile("shoal")

# Modules whose tests share what one of them makes, or follow on each other: they stay in one process. (xdist's own mark
# for this, xdist_group, has no effect under pytest 9.)
TOGETHER = ("tests/integration/test_models_cli.py", "tests/integration/test_rebalances.py")


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of the session share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def kafka(session_folder: Path) -> Iterator[str]:
    """Bootstrap servers of a real Apache Kafka, started for the first test that asks for it."""
    # how often the broker looks for transactions that are older than they may be: ten seconds by default
    overrides = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000"}
    with shared_broker(session_folder / "broker", overrides) as bootstrap:
        yield bootstrap


@pytest.fixture
def prefix() -> str:
    """A prefix for topics, groups and transactional ids that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}-"


class Scheduling(LoadScopeScheduling):
    """Each test goes to the next free process, those of a module of TOGETHER to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return Scheduling(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests: first those that wait for a broker, and among them those that take long
    to compute; the many short ones fill the end."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    waiting = [item for item in items if item.get_closest_marker("kafka")]
    computing = [item for item in items if item.get_closest_marker("slow") and item not in waiting]
    chosen = set(waiting) | set(computing)
    step = len(waiting) // (len(computing) + 1) + 1
    first: list[pytest.Item] = []
    for start in range(0, max(len(waiting), step * len(computing)), step):
        first += waiting[start : start + step] + computing[start // step : start // step + 1]
    items[:] = first + [item for item in items if item not in chosen]
