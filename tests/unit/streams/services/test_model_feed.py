"""A model version that was learned over other features is refused where it comes in."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from online_models.version import dumps
from streams.config.settings import load
from streams.errors import StateError
from streams.services.model_feed import ModelFeed, check_features
from tests.build import version
from tests.processes import SHOAL
from tests.support.forks import run


def test_a_version_over_other_features_is_refused() -> None:
    model = version(1, 3)
    check_features(model)
    names = [*model.names[:-1], "another"]
    with pytest.raises(ValueError, match=f"other features; the difference: another, {model.names[-1]}$"):
        check_features(msgspec.structs.replace(model, names=names))
    with pytest.raises(ValueError, match="the difference: their order"):
        check_features(msgspec.structs.replace(model, names=model.names[::-1]))


def test_the_feed_ends_with_the_number_and_the_reason() -> None:
    model = version(1, 3)
    feed = ModelFeed(load(environ={}), lambda _: None)
    other = msgspec.structs.replace(model, names=model.names[::-1])
    with pytest.raises(StateError, match="model version 1 cannot be used: it was learned over other features"):
        feed._apply(b"1", dumps(other))
    assert feed.versions == {}


def test_a_backfill_with_such_a_version_writes_nothing(tmp_path: Path) -> None:
    model = version(1, 3)
    (tmp_path / "model").write_bytes(dumps(msgspec.structs.replace(model, names=model.names[::-1])))
    (tmp_path / "events.jsonl").write_text('{"user_id": "ann", "event_type": "view", "event_time": 1}\n')
    done = run([*SHOAL, "backfill", "events.jsonl", "-o", "out.parquet", "--model", "model"], cwd=tmp_path)
    assert done.returncode == 10, done.stderr
    assert "learned over other features" in done.stderr
    assert not (tmp_path / "out.parquet").exists()


def test_a_scaler_refuses_rows_of_another_width() -> None:
    with pytest.raises(ValueError, match="7 columns; the scaler was fitted to"):
        version(1, 3).scaler.transform(np.zeros((2, 7)))
