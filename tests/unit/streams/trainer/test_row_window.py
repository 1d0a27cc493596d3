"""The window of training rows on the local disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_models.training_rows import FIRST_DAY_ROW, OUTCOME_ROW, SAMPLE_ROW, USER, TrainingRows, join
from streams.errors import StateError
from streams.trainer.row_window import RowWindow

WIDTH = 3
KINDS = np.array([SAMPLE_ROW, OUTCOME_ROW, FIRST_DAY_ROW], np.int8)


def opened(folder: Path, capacity: int = 10, width: int = WIDTH, columns: int = 7, topic: str = "a") -> RowWindow:
    return RowWindow(folder, capacity, width, columns, topic)


def rows(first: int, n: int, step: int = 1) -> TrainingRows:
    """Rows whose columns follow from their offsets; the offsets have gaps where step is more than 1."""
    at = np.arange(first, first + n * step, step)
    user = np.zeros((n, 2), "<i8")
    user[:, 0] = at
    return TrainingRows(
        offset=at,
        now=at * 10,
        kind=KINDS[at % 3],
        user=user.view(USER)[:, 0],
        born=at + 1,
        carts=at + 2,
        orders=at + 3,
        sessions=at + 4,
        raw=np.repeat(at[:, None] / 7, WIDTH, 1),
    )


def same(found: TrainingRows, wanted: TrainingRows) -> bool:
    return all((getattr(found, name) == getattr(wanted, name)).all() for name in TrainingRows.__slots__)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 25), st.booleans()), max_size=6), st.integers(1, 3))
def test_the_window_holds_the_newest_rows_also_after_a_reopen(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, bool]], step: int
) -> None:
    folder, put = tmp_path_factory.mktemp("window"), [rows(0, 0)]
    window = opened(folder)
    for n, again in parts:
        put.append(rows(window.next_offset, n, step))
        window.put(put[-1], window.next_offset + n * step)
        if again:
            window.close()
            window = opened(folder)
            assert window.resume(0, 10**9) == sum(len(part) for part in put) * step
        newest = join(put).take(slice(-10, None))
        assert len(window) == len(newest)
        assert same(window.rows(), newest)
        half = window.next_offset // 2
        assert window.learnable(half) == np.count_nonzero((newest.kind == SAMPLE_ROW) & (newest.offset >= half))
    window.close()


def test_after_a_crash_the_window_resumes_from_the_last_flush(tmp_path: Path) -> None:
    window = opened(tmp_path)
    window.put(rows(0, 12), 12)
    window.notes = {"trained": 9}
    window.flush()
    window.put(rows(12, 5), 17)
    window._lock.close()  # killed
    window = opened(tmp_path)
    assert (window.resume(0, 50), window.notes) == (12, {"trained": 9})
    # the five rows put since then have replaced the oldest ones
    assert window.rows().offset.tolist() == [7, 8, 9, 10, 11]
    window.put(rows(12, 5), 17)
    assert same(window.rows(), rows(7, 10))


def test_files_that_do_not_fit_are_created_anew(tmp_path: Path) -> None:
    others = ({"topic": "b"}, {"columns": 8}, {"capacity": 11}, {"width": 4})
    for other in others:
        window = opened(tmp_path)
        window.put(rows(0, 4), 4)
        window.close()
        window = opened(tmp_path, **other)
        assert (len(window), window.next_offset, window.notes) == (0, 0, {})
        window.close()
    for damage in ("rows.json", "rows.bin"):
        window = opened(tmp_path)
        window.put(rows(0, 4), 4)
        window.close()
        (tmp_path / damage).write_bytes(b"[1]")
        assert len(opened(tmp_path)) == 0


def test_a_log_with_other_bounds(tmp_path: Path) -> None:
    window = opened(tmp_path)
    window.put(rows(0, 4), 4)
    assert window.resume(9, 20) == 9  # retention has deleted records that were not read yet
    assert same(window.rows(), rows(0, 4))
    window.notes = {"a": 1}
    assert window.resume(0, 8) == 0  # the log ends before what was read, so it is another one
    assert (len(window), window.notes) == (0, {})


def test_one_process_at_a_time(tmp_path: Path) -> None:
    window = opened(tmp_path / "new")
    with pytest.raises(StateError, match="another process"):
        opened(tmp_path / "new")
    window.close()
    opened(tmp_path / "new").close()
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file"):
        opened(tmp_path / "file")


def test_files_are_written_atomically(tmp_path: Path) -> None:
    window = opened(tmp_path)
    assert window.read("encoder") is None
    window.write("encoder", b"1")
    window.write("encoder", b"2")
    assert window.read("encoder") == b"2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder", "lock", "rows.bin"]
