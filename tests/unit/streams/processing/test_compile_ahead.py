"""What is compiled ahead is all that a partition needs."""

from __future__ import annotations

import os

import numpy as np
import pytest

from state import compiled
from state.stores.memory import MemoryStore
from streams.processing.compile_ahead import compile_ahead
from tests.build import records, stream, task, version


def signatures() -> dict[str, int]:
    return {function.py_func.__qualname__: len(function.signatures) for function in compiled.FUNCTIONS}


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
def test_a_partition_compiles_nothing_later() -> None:
    model = version(1, 3, hysteresis=0.1)
    compile_ahead()
    before = signatures()
    processor = task(MemoryStore())
    processor.adopt(model)
    processor.cut(0)
    events = stream(np.random.default_rng(8), 400, 5)
    processor.add(records(events))
    processor.run(1 << 60, {"clickstream": len(events)})
    processor.sweep(100)
    processor.continue_pass(100)
    processor.cut(0)
    processor.add(records([{"user_id": "alone", "event_type": "view", "event_time": 1 << 41}], first=len(events)))
    processor.run(1 << 60, {"clickstream": len(events) + 1})
    assert signatures() == before
