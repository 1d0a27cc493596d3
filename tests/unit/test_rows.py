from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


numbers = st.integers(0, 1 << 16) | st.integers(0, 300)
ids = st.lists(st.integers(1, (1 << 64) - 1), max_size=16)
pane = st.tuples(st.lists(numbers, min_size=11, max_size=11), st.integers(-(1 << 40), 1 << 40) | st.integers(-99, 99))


@given(st.lists(st.tuples(ids, ids, ids, st.lists(pane, max_size=4)), max_size=5))
def test_whatever_a_row_holds_comes_back(held_by: list) -> None:
    heads, _, _ = rows.join([None] * len(held_by))
    owner = np.repeat(np.arange(len(held_by)), [len(one[3]) for one in held_by]).astype(np.int64)
    measures = np.array([m for one in held_by for m, _ in one[3]], np.int64).reshape(-1, rows.KEPT)
    measures[:, rows.SPEND] = [spend for one in held_by for _, spend in one[3]]
    for i, (events, sessions, orders, _) in enumerate(held_by):
        for name, held, room in (("ids", events, 16), ("sessions", sessions, 8), ("orders", orders, 8)):
            heads[name][i, : len(held[:room])] = held[:room]
    start = np.arange(len(owner))
    again, panes, back = rows.join(rows.cut(heads, rows.pack(start, measures), owner))
    assert (again == heads).all()
    assert back.tolist() == owner.tolist()
    found = dict(zip(panes["start"].tolist(), rows.values(panes).tolist(), strict=True))
    assert found == dict(zip(start.tolist(), measures.tolist(), strict=True))


def test_a_row_of_layout_1_is_read_and_what_it_lacked_is_unknown() -> None:
    heads, _, _ = rows.join([None, None])
    heads["segment"], heads["born"], heads["followed"], heads["ids"][:, 0] = [3, 4], 7, 1, 9
    heads["alert"], heads["alert_since"] = [1, 0, 2, 0], [5, 0, 6, 0]
    owner, panes = np.array([0, 1, 1]), rows.pack(np.array([5, 6, 7]), np.arange(33).reshape(3, 11))
    now = rows.cut(heads, panes, owner)
    new = rows.STORED.itemsize
    before = []
    for row in now:
        old, head = np.zeros(1, rows._STORED_1), np.frombuffer(row[:new], rows.STORED)
        for name in rows._STORED_1.names or ():
            old[name] = head[name][:, :3] if name.startswith("alert") and name != "alert_seq" else head[name]
        old["layout"] = 1
        before.append(old.tobytes() + row[new:])
    assert len(before[0]) < len(now[0])
    assert rows.unreadable(before) == []
    back, panes, again = rows.join([before[0], now[1]])
    assert back["segment"].tolist() == [3, 4]
    assert back["born"].tolist() == [0, 7]
    assert back["followed"].tolist() == [0, 1]
    assert back["ids"][:, 0].tolist() == [9, 9]
    assert (back["alert"] == heads["alert"]).all()
    assert (back["alert_since"] == heads["alert_since"]).all()
    assert (again == owner).all()
    assert panes["start"].tolist() == [5, 6, 7]
    assert rows.cut(back, panes, again)[1] == now[1]


def test_another_layout_is_refused() -> None:
    heads, panes, owner = rows.join([None])
    heads["layout"] = 99
    with pytest.raises(rows.LayoutError, match="99"):
        rows.join(rows.cut(heads, panes, owner))
