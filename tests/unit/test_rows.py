import numpy as np
import pytest

from state import rows


def test_a_missing_row_is_blank_and_comes_back_as_bytes() -> None:
    heads, panes, owner = rows.join([None, None])
    assert heads["birth"].tolist() == [-1, -1]
    assert len(panes) == len(owner) == 0
    assert rows.cut(heads, panes, owner) == [rows.BLANK, rows.BLANK]


def test_panes_stay_with_their_rows() -> None:
    heads, _, _ = rows.join([None, None, None])
    owner = np.array([0, 2, 2])
    measures = np.arange(33).reshape(3, 11)
    cut = rows.cut(heads, rows.pack(np.array([5, 6, 7]), measures), owner)
    _, panes, again = rows.join(cut)
    assert again.tolist() == [0, 2, 2]
    assert panes["start"].tolist() == [5, 6, 7]
    assert (rows.values(panes) == measures).all()
    assert rows.clock_of(cut[0]) == rows.NEVER


def test_another_layout_is_refused() -> None:
    heads, panes, owner = rows.join([None])
    heads["layout"] = 99
    with pytest.raises(rows.LayoutError, match="99"):
        rows.join(rows.cut(heads, panes, owner))
