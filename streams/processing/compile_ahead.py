"""Compile the loops over events before they are needed: a few events go through a partition without Kafka.

Compiling takes some twenty seconds, which a worker must not spend in its event loop. What is compiled stays on disk
(state/compiled.py), so that later starts only load it.
"""

from __future__ import annotations

import json

import numpy as np

from online_models.clustering import scaler
from online_models.distances import nearest
from online_models.version import Version
from state import features, row_windows, rows, windows
from state.expiry_index import possible_entries
from state.stores.memory import MemoryStore
from state.stores.row_cache import BLOCK, FIRST_SLOTS, RowCache
from state.vocabulary import VOCABULARY
from streams.processing.alerts.rule import JudgedSteps
from streams.processing.alerts.spend import ShopHistory
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.schemas.flat_json import FlatJson
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import decoder

DAY_MS = 86_400_000


def compile_ahead() -> None:
    """Compile, or load, all loops that a partition runs."""
    store = MemoryStore()
    config = PartitionConfig(sources=("events",))
    topics = Topics("changes", "segments", "alerts", "dead-letters", "training-rows", "results")
    processor = PartitionProcessor(config, decoder([FlatJson()]), store, topics)
    processor.adopt(_version())
    processor.cut(0)
    for day in range(3):
        records = [_record(user, day * DAY_MS + user * 1000) for user in (1, 2)]
        keys, values = zip(*records, strict=True)
        first = 2 * day
        processor.add(RecordBatch("events", 0, first, first + 1, [first, first + 1], list(keys), list(values), [0, 0]))
        processor.run(4 * DAY_MS, {"events": first + 2})
        processor.sweep(10)
        processor.cut(0)
    user, row = next(iter((key, row) for key, row in store.rows.items() if key[:1] != b"\0"))
    possible_entries(user, row, config.forget)
    for stored in ([row], [row, row]):  # numpy takes columns of records for contiguous where there is but one
        joined = row_windows.settled(rows.join(stored))
        row_windows.next_edges(joined, joined.heads["clock"] // windows.UNIT)
        features.raw(
            row_windows.window_sums(joined, 4 * DAY_MS // windows.UNIT), joined.heads["hours"].astype(np.int64)
        )
    # The windows of one step, or of none, are contiguous; those of several steps are columns of records.
    one_step = np.zeros((1, len(windows.WINDOWS), len(VOCABULARY.measures)), np.int64)
    JudgedSteps(one_step, np.zeros(1, np.int64), ShopHistory.none(1), np.zeros((1, 1)), None).total("1h", "orders")
    cache = RowCache(1)
    for row_bytes in (8, BLOCK // 3):  # fills the slots, then the blocks
        cache.put_many({b"%d" % key: bytes(row_bytes) for key in range(FIRST_SLOTS if row_bytes == 8 else 4)})
    cache.get_many([b"0"])
    cache.drop(b"0")


def _record(user: int, time: int) -> tuple[bytes, bytes]:
    event = {"user_id": str(user), "event_time": time, "event_type": "view", "event_id": f"{user}-{time}"}
    return str(user).encode(), json.dumps(event).encode()


def _version() -> Version:
    """A version of two segments over made-up rows."""
    raw = np.random.default_rng(0).random((60, 2 * features.R + len(features.PLAIN)))
    fitted = scaler.fit(raw, features.R)
    points = fitted.transform(raw)
    nearest(points, points[:2])
    return Version(
        number=1,
        names=list(features.NAMES),
        ratios=features.R,
        scaler=fitted,
        ids=[0, 1],
        next_id=2,
        centre_bytes=points[:2].tobytes(),
        profile_bytes=points[:2].tobytes(),
        weights=[0.5, 0.5],
        learned_to=0,
        rows=60,
        event_time=0,
        parent=0,
        error=0.0,
        hysteresis=0.1,
    )
