"""A third side model is one class with its learner and one line in the registry: learned, stored, resumed, shown."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from online_models.learner.learner import Learner
from online_models.prediction import registry
from online_models.prediction.side_model import OWN_FIELDS, Column, Shoppers, SideLearner, Values
from online_models.training_rows import TrainingRows
from online_models.version import Version, dumps, loads
from streams.offline import feature_table
from tests.people import PARAMS, learned, rows_in_time


class Sessions(msgspec.Struct, frozen=True):
    """What the third model publishes: the mean of the first raw column, and the rows it was learned from."""

    mean: float
    rows: int


class SessionsLearner:
    def __init__(self, total: float = 0.0, rows: int = 0) -> None:
        self.total, self.rows = total, rows

    def learn(self, rows: TrainingRows, version: Version | None) -> None:
        self.total += float(np.cumsum(rows.raw[:, 0])[-1])
        self.rows += len(rows)

    def publish(self, version: Version) -> Sessions | None:
        return Sessions(self.total / self.rows, self.rows) if self.rows > 300 else None

    def state(self) -> bytes:
        return msgspec.msgpack.encode((self.total, self.rows))

    def figures(self) -> dict[str, float]:
        return {"sessions_rows": float(self.rows)}


class SessionsKind:
    name = "sessions"
    model = Sessions
    columns = (Column("expected_sessions", np.float32),)

    def check(self, model: Sessions, version: Version) -> None:
        if model.rows < 0:
            raise ValueError("sessions: fewer rows than none")

    def start(self, ratios: int) -> SideLearner[Sessions]:
        return SessionsLearner()

    def resume(self, state: bytes, model: Sessions | None, ratios: int) -> SideLearner[Sessions]:
        return SessionsLearner(*msgspec.msgpack.decode(state))

    def predict(self, model: Sessions, version: Version, shoppers: Shoppers) -> list[Values]:
        n = len(shoppers.raw)
        return [Values(np.full(n, model.mean), np.arange(n) == 0)]


KIND = SessionsKind()


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SIDE_MODELS", (*registry.SIDE_MODELS, KIND))


@pytest.mark.usefixtures("third")
def test_a_third_is_learned_stored_and_resumed() -> None:
    rows = rows_in_time(3, 900)
    versions = learned(rows)
    assert [version.side_model(KIND) is None for version in versions] == [True, False, False, False, False]
    assert versions[-1].side_model(KIND) == Sessions(1.0, 900)
    assert versions[-1].quality["sessions_rows"] == 900.0
    data = [dumps(version) for version in versions]
    for i, version in enumerate(map(loads, data)):
        rest = Learner.resume(version, PARAMS).learn(rows.take(slice(version.learned_to, None)))
        assert [dumps(later) for later in rest] == data[i + 1 :]


def test_a_third_begins_with_nothing_where_versions_are_older_than_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_in_time(3, 900)
    older = loads(dumps(learned(rows)[1]))
    monkeypatch.setattr(registry, "SIDE_MODELS", (*registry.SIDE_MODELS, KIND))
    last = Learner.resume(older, PARAMS).learn(rows.take(slice(older.learned_to, None)))[-1]
    assert last.side_model(KIND) == Sessions(1.0, 900 - older.learned_to)


@pytest.mark.usefixtures("third")
def test_a_damaged_third_is_refused() -> None:
    version = learned(rows_in_time(3, 600))[-1]
    with pytest.raises(ValueError, match="fewer rows than none"):
        loads(dumps(version.with_side_models({KIND.name: Sessions(0.0, -1)})))
    with pytest.raises(ValueError, match="sessions: "):
        loads(dumps(msgspec.structs.replace(version, side_models={KIND.name: b"rubbish"})))


def test_versions_without_a_third_have_no_place_for_it_in_their_bytes() -> None:
    version = learned(rows_in_time(3, 300))[-1]
    stored, state = msgspec.msgpack.decode(dumps(version)), msgspec.msgpack.decode(version.state)
    assert "side_models" not in stored
    assert "side_models" not in state
    assert OWN_FIELDS.keys() <= stored.keys()
    assert OWN_FIELDS.keys() <= state.keys()


@pytest.mark.usefixtures("third")
def test_tables_have_a_third_ones_columns() -> None:
    version = learned(rows_in_time(3, 600))[-1]
    assert feature_table.schema(version).field("expected_sessions").type == pa.float32()
    shown = registry.in_tables()
    assert [kind.name for kind in shown] == ["propensity", "sessions", "young"]
