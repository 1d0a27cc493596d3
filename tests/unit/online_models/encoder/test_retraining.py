"""When an encoder is trained."""

from __future__ import annotations

from collections.abc import Sequence

from online_models.encoder.retraining import LastTraining, reason

DONE = LastTraining(0.0, 7)


def why(
    now: float, rows: int = 1_000, fresh: int = 500, drifted: Sequence[str] = (), done: LastTraining | None = DONE
) -> str | None:
    return reason(now, done, rows, fresh, drifted, first=800, every=600.0)


def test_the_first_takes_enough_rows() -> None:
    assert why(0.0, 799, done=None) is None
    assert why(0.0, 800, done=None) == "the first 800 rows"


def test_one_follows_after_a_time_where_there_is_something_new() -> None:
    assert why(599.0) is None
    assert why(600.0) == "10 minutes and 500 rows since the last"
    assert why(600.0, fresh=49) is None
    assert why(600.0, fresh=50) is not None


def test_drift_is_a_reason_but_not_at_once() -> None:
    assert why(59.0, drifted=["a", "b"]) is None
    assert why(60.0, drifted=["a", "b"]) == "a; b"
    assert why(60.0, drifted=["a"], fresh=99) is None
    assert why(60.0, drifted=["a"], fresh=100, rows=100_000) == "a"
