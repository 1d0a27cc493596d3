"""Rows on the disk of a command: as in a dict, and sorted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from state.stores import scratch
from state.stores.scratch import ScratchRows


def test_rows_are_those_of_a_dict_sorted_by_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "WRITE_ROWS", 5)
    rng, expected = np.random.default_rng(1), dict[bytes, bytes]()
    rows = ScratchRows(tmp_path / "rows")
    for number in range(300):
        user = b"u%d" % rng.integers(40)
        row = None if rng.random() < 0.2 else b"%d" % number
        rows.put_many({user: row}, {b"\0due": b""})
        if row is None:
            expected.pop(user, None)
        else:
            expected[user] = row
        asked = [b"u%d" % i for i in rng.integers(0, 40, 3)]
        assert rows.get_many(asked) == [expected.get(one) for one in asked]
    assert list(rows.items()) == sorted(expected.items())
    assert rows.scan(None, 3) == sorted(expected)[:3]
    assert rows.scan(sorted(expected)[2], 100) == sorted(expected)[3:]
    assert rows.due(1 << 31, 100) == []
    rows.close()
