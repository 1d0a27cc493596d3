"""What the newest model says of users: embeddings in the table, look-alikes."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from state.stores.memory import MemoryStore
from streams.errors import DataError
from streams.offline import feature_table
from streams.operations.look_alikes import similar
from tests.build import random_encoder, records, task, version

START = 1_700_000_000_000
MODEL = msgspec.structs.replace(version(1, 1), encoder=random_encoder(3))


@pytest.fixture(scope="module")
def stored() -> dict[bytes, bytes]:
    """Two who buy at once, three who look around."""
    kinds = {"buyer": ["view", "add_to_cart", "purchase"] * 4, "looker": ["page_view", "search", "view"] * 4}
    events = [
        {"user_id": f"{kind}-{i}", "event_type": event, "event_time": START + at * 60_000, "price": 10.0}
        for kind, many in (("buyer", 2), ("looker", 3))
        for i in range(many)
        for at, event in enumerate(kinds[kind])
    ]
    events.sort(key=lambda event: event["event_time"])
    store = MemoryStore()
    one = task(store)
    one.add(records(events))
    one.run(0, {"clickstream": len(events)})
    one.cut(0)
    return {key: row for key, row in store.rows.items() if key[:1] != b"\x00" and row is not None}


@pytest.mark.parametrize("model", [MODEL, version(1, 1)], ids=["embedding", "windows"])
def test_the_nearest_come_first_and_what_is_shared_is_named(stored: dict[bytes, bytes], model: object) -> None:
    found = similar(list(stored), list(stored.values()), model, b"buyer-0", 10)
    assert found[0]["user"] == "buyer-1"
    assert len(found) == len(stored) - 1
    assert (found[0]["distance"], found[-1]["distance"] > 0) == (0.0, True)
    assert "more spend per order" in [one["words"] for one in found[0]["shared"]]
    assert similar(list(stored), list(stored.values()), model, b"buyer-0", 1) == found[:1]
    with pytest.raises(DataError, match="no such user"):
        similar(list(stored), list(stored.values()), model, b"nobody", 1)


def test_a_models_columns_are_in_the_table(stored: dict[bytes, bytes]) -> None:
    now = feature_table.latest(stored.values())
    plain = feature_table.table(list(stored), list(stored.values()), now)
    table: pa.Table = feature_table.table(list(stored), list(stored.values()), now, MODEL)
    assert table.drop_columns(["embedding", "unusual"]).equals(plain)
    assert plain.schema == feature_table.SCHEMA
    raw = feature_table.raw_matrix(*feature_table.window_sums(list(stored.values()), now))
    assert MODEL.encoder is not None
    expected = MODEL.encoder.encode(MODEL.encoder.features(raw))
    assert np.array(table["embedding"].to_pylist()) == pytest.approx(expected)
    assert table["unusual"].to_pylist() == pytest.approx(MODEL.encoder.unusual(raw).tolist())
    judged = feature_table.table(list(stored), list(stored.values()), now, MODEL, judge=True)
    assert judged["segment"].null_count == 0 < plain["segment"].null_count
