"""The edges of ownership and of a fetch, on real Kafka: what is flushed when, and a hole that the log does not have."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.deployed import Deployed
from tests.processes import wait_for

pytestmark = pytest.mark.kafka
# No tick flushes in a test's time: whoever waits less than that for a flush has waited for another one.
SELDOM = {"state.flush_interval": 60.0, "state.transaction_timeout": 80.0}

# a worker that loses a fetch of a source, after the consumer's position has moved, and another one later: where the
# first is read again, what it fetches meanwhile is dropped, so the second must lie well behind it
HOLED = """
import streams.transport.batch_transport as transport
whole, lost_at = transport.unpack, [100, 2_000]
def holed(tp, result, limit):
    batch = whole(tp, result, limit)
    if batch is not None and tp.topic.endswith("clickstream") and lost_at and batch.first >= lost_at[0]:
        del lost_at[0]
        return None
    return batch
transport.unpack = holed
from streams.cli import main
main()
"""


def apply_without_a_flush(made: Deployed) -> None:
    wait_for(made.ready, "the worker")
    made.send(500)
    wait_for(lambda: made.applied() == 500, "the records")
    assert made.counted() == {}


def wait_for_the_flush(made: Deployed) -> None:
    """A transaction that has ended is visible a little later, once its markers are written."""
    wait_for(lambda: made.counted() != {}, "the flush", 20)
    assert made.counted() == dict(made.sent)


def test_a_stop_flushes_what_was_applied(kafka: str, prefix: str, tmp_path: Path) -> None:
    made = Deployed(kafka, prefix, tmp_path, **SELDOM)
    with made.run() as process:
        apply_without_a_flush(made)
        process.terminate()
        assert process.wait(60) == 0, made.log()[-3000:]
    wait_for_the_flush(made)


def test_a_revoke_flushes_what_was_applied(kafka: str, prefix: str, tmp_path: Path) -> None:
    made = Deployed(kafka, prefix, tmp_path, **SELDOM)
    with made.run() as process:
        apply_without_a_flush(made)
        with made.run(folder=tmp_path / "other") as other:
            wait_for(lambda: "Successfully synced group" in (tmp_path / "other" / "worker.log").read_text(), "it")
            wait_for_the_flush(made)
            assert (process.poll(), other.poll()) == (None, None)


def test_a_hole_in_a_fetch_is_read_again(kafka: str, prefix: str, tmp_path: Path) -> None:
    made = Deployed(kafka, prefix, tmp_path, **{"state.max_poll_records": 100})
    made.send(3_000)
    with made.run(program=[sys.executable, "-c", HOLED]) as process:
        made.settled(process)
        found = re.findall(r"clickstream/0: fetched (\d+), expected (\d+): reading again", made.log())
        assert [int(at) > int(expected) for at, expected in found] == [True, True]
        _, metrics = made.page("/metrics")
        assert f'shoal_continuity_seeks_total{{topic="{made.clicks}"}} 2.0' in metrics
