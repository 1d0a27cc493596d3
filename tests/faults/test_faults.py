"""Six of the faults, one seed, a smaller stream; `make faults` plays them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.faults import FAULTS
from tests.faults.runner import Run
from tests.support.events.squeezed_month import Shape

pytestmark = pytest.mark.kafka
CHOSEN = (
    "sigkill",
    "kill_before_rocksdb",
    "wiped",
    "frozen_in_transaction",
    "broker_killed",
    "dead_letters_unwritable",
)
SMALL = {
    "shape": Shape(events=4_000, users=400),
    "rate": 800.0,
    "state.session_timeout": 3.0,
    "state.rebalance_timeout": 3.0,
}


@pytest.mark.parametrize("name", CHOSEN)
def test_nothing_is_lost_repeated_or_made_up(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fault = FAULTS[name]
    bootstrap = None if fault.own else request.getfixturevalue("kafka")
    run = Run(tmp_path, 1, bootstrap, **fault.options | SMALL)
    try:
        fault.play(run)
        report = run.finish()
    finally:
        run.close()
    assert report.faults() == {}, report.examples
    assert report.causes["expiry"] > 100
