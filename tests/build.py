"""Builders for tests: record batches, decoded events, model versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from online_models.clustering.scaler import Scaler
from online_models.encoder.encoder import Encoder, build
from online_models.encoder.encoder_file import Layer
from online_models.learner.learner import Learner, LearnerParams
from online_models.prediction.calibration import Calibration
from online_models.prediction.decision_trees import DecisionTrees
from online_models.prediction.first_day import FirstDayModel
from online_models.prediction.propensity import Head, PropensityModel
from online_models.training_rows import SAMPLE_ROW, USER, Ints, TrainingRows
from online_models.version import Version
from state import features
from state.stores.memory import MemoryStore
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.schemas.event_batch import EventBatch
from streams.schemas.flat_json import FlatJson
from streams.schemas.record_batch import RecordBatch
from tests.support.decoding import decode

SCHEMA = FlatJson()


def records(events: Sequence[dict[str, Any]], *, topic: str = "clickstream", first: int = 0) -> RecordBatch:
    """A fetch of well-keyed records, record time = event time."""
    n = len(events)
    return RecordBatch(
        topic,
        0,
        first,
        first + n - 1,
        list(range(first, first + n)),
        [str(e["user_id"]).encode() for e in events],
        [json.dumps(e).encode() for e in events],
        [int(e["event_time"]) for e in events],
    )


def decoded(batch: RecordBatch, *, source: int = 0, key_before: int = -1, now: int | None = None) -> EventBatch:
    return SCHEMA.decode(batch, source=source, key_before=key_before, now=now)


def task(store: MemoryStore) -> PartitionProcessor:
    """A partition of one source, its rows in a store; the topics of what it says are single letters."""
    return PartitionProcessor(
        PartitionConfig(sources=("clickstream",)),
        decode,
        store,
        Topics("c", "s", "a", "d", "t", "r"),
    )


def version(number: int, seed: int, k: int = 4, hysteresis: float = 0.0) -> Version:
    """A version learned from random rows."""
    rng = np.random.default_rng(seed)
    width = 2 * features.R + len(features.PLAIN)
    raw = rng.poisson(2.0, (60, width)).astype(float)
    params = LearnerParams(k, k, 60, 10_000, 1 << 60, 60, seed, features.R, list(features.NAMES))
    (found,) = Learner.start(params).learn(training_rows(raw))
    return msgspec.structs.replace(found, number=number, hysteresis=hysteresis)


def foretelling(version: Version) -> Version:
    """A version with hand-made side models: whoever is low in the first feature stays in the segment all day."""
    nodes, ids, width = DecisionTrees(), version.ids, len(version.names) + version.ratios
    roots = []
    for segment, other in zip(ids, [*ids[1:], ids[0]], strict=True):
        roots.append(root := nodes.add_branch(0, 0.0))
        nodes.left[root], nodes.right[root] = nodes.add_leaf(segment, 0.75), nodes.add_leaf(other, 0.5)
    level = Calibration(0.0, 1.0, [0.125, 0.25, 0.5, 0.875])
    first_day = FirstDayModel(True, list(ids), roots, [0.5] * len(ids), 0.5, nodes, level, level)
    rates = Calibration(-8.0, 8.0, [0.01, 0.02, 0.3])
    head = Head([1.0] * width, [0.5] * width, [0.25] * width, -4.0, 2.0, rates)
    propensity = PropensityModel(version.ratios, [head, None, head])
    return msgspec.structs.replace(version, first_day=first_day, propensity=propensity)


def random_encoder(seed: int, latent: int = 3) -> Encoder:
    """Untrained, for shoal's features."""
    rng, width = np.random.default_rng(seed), len(features.NAMES)

    def layer(inner: int, outer: int) -> Layer:
        return Layer(rng.normal(0, 0.5, (outer, inner)).astype(np.float32), np.zeros(outer, np.float32))

    scaler = Scaler([0.1] * features.R, [5.0] * features.R, [0.0] * width, [1.0] * width)
    return build(features.NAMES, scaler, [layer(width, 7), layer(7, latent)], [layer(latent, width)], 0.25)


def training_rows(raw: NDArray[np.float64], now: Ints | None = None, user: Ints | None = None) -> TrainingRows:
    """Rows (n, 2R + L) that the learner learns from, at offsets from 0; each of its own user unless told."""
    n = len(raw)
    ident = np.zeros((n, 2), "<i8")
    ident[:, 0] = np.arange(n) if user is None else user
    none = np.zeros(n, np.int64)
    return TrainingRows(
        offset=np.arange(n),
        now=np.arange(n) if now is None else now,
        kind=np.full(n, SAMPLE_ROW, np.int8),
        user=ident.view(USER)[:, 0],
        born=none,
        carts=none,
        orders=none,
        sessions=none,
        raw=raw,
    )


def stream(rng: np.random.Generator, n: int, users: int) -> list[dict[str, Any]]:
    """Events in an order of arrival: mostly forward, some late, some repeated, some bad."""
    kinds = ["page_view", "view", "search", "add_to_cart", "purchase", "refund", "click", "checkout"]
    time = 1_700_000_000_000 + np.cumsum(rng.integers(0, rng.choice([20_000, 900_000, 40_000_000]), n))
    time = time - (rng.random(n) < 0.15) * rng.integers(0, 3 * 86_400_000, n)
    events: list[dict[str, Any]] = []
    for i in range(n):
        event: dict[str, Any] = {
            "event_time": int(time[i]),
            "event_type": str(rng.choice(kinds)),
            "user_id": f"u{rng.integers(0, users)}",
            "price": float(rng.integers(0, 90_000)) / 100,
            "quantity": int(rng.integers(-1, 4)),
        }
        if rng.random() < 0.6:
            event["session_id"] = f"s{rng.integers(0, 9)}"
        if rng.random() < 0.5:
            event["event_id"] = f"e{rng.integers(0, n)}"
        if rng.random() < 0.4:
            event["category"] = f"c{rng.integers(0, 7)}"
        if rng.random() < 0.05:
            event["price"] = -1
        events.append(event)
    return events
