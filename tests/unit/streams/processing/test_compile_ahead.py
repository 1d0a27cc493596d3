"""What is compiled ahead is all that a partition needs."""

from __future__ import annotations

import os

import numpy as np
import pytest

from state import compiled
from state.expiry_index import possible_entries
from state.stores.memory import MemoryStore
from streams.processing.alerts.registry import AlertSettings, rules_from
from streams.processing.compile_ahead import compile_ahead
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.schemas.flat_json import FlatJson
from streams.schemas.schema import decoder
from tests.build import records, stream, version


def signatures() -> dict[str, int]:
    return {function.py_func.__qualname__: len(function.signatures) for function in compiled.FUNCTIONS}


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
def test_a_partition_compiles_nothing_later() -> None:
    model = version(1, 3, hysteresis=0.1)
    compile_ahead()
    before = signatures()
    store = MemoryStore()
    config = PartitionConfig(
        sources=("clickstream",), alerts=rules_from(AlertSettings(request_rate=(1, 2), spend_least=0.0))
    )
    topics = Topics("c", "s", "a", "d", "t", "r")
    processor = PartitionProcessor(config, decoder([FlatJson()]), store, topics)
    processor.adopt(model)
    processor.cut(0)
    events = stream(np.random.default_rng(8), 400, 5)
    processor.add(records(events))
    processor.run(1 << 60, {"clickstream": len(events)})
    processor.sweep(100)
    processor.continue_pass(100)
    flush = processor.cut(0)
    assert flush is not None
    assert flush.outputs["a", 0]
    processor.add(records([{"user_id": "alone", "event_type": "view", "event_time": 1 << 41}], first=len(events)))
    processor.run(1 << 60, {"clickstream": len(events) + 1})
    for user, row in store.rows.items():
        if user[:1] != b"\0":
            possible_entries(user, row, config.forget)
    assert signatures() == before
