"""Rows between bytes and arrays, in the layout of today and in those before."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state import rows
from state.layout import LAYOUT, LAYOUTS
from state.vocabulary import TABLE, VOCABULARY, Vocabulary

WIDTH = len(VOCABULARY.measures)
STORED: dict[str, Any] = json.loads((Path(__file__).parent / "stored_rows.json").read_text())  # as releases wrote them


def test_a_missing_row_is_blank_and_comes_back_as_bytes() -> None:
    joined = rows.join([None, None])
    assert joined.heads["birth"].tolist() == [-1, -1]
    assert len(rows.panes(joined).start) == 0
    assert rows.cut(joined) == [rows.BLANK, rows.BLANK]


def test_panes_stay_with_their_rows() -> None:
    measures = np.arange(3 * WIDTH).reshape(3, WIDTH)
    panes = rows.Panes(np.array([0, 1, 1, 3]), np.array([5, 6, 7]), measures)
    cut = rows.cut(rows.pack(rows.join([None, None, None]).heads, panes))
    again = rows.panes(rows.join(cut))
    assert again.first.tolist() == [0, 1, 1, 3]
    assert again.start.tolist() == [5, 6, 7]
    assert (again.measures == measures).all()
    assert rows.clock_of(cut[0]) == rows.NEVER


numbers = st.integers(0, 1 << 16) | st.integers(0, 300)
ids = st.lists(st.integers(1, (1 << 64) - 1), max_size=16)
spends = st.integers(-(1 << 40), 1 << 40) | st.integers(-99, 99)
pane = st.tuples(st.lists(numbers, min_size=WIDTH, max_size=WIDTH), spends)


@given(st.lists(st.tuples(ids, ids, ids, st.lists(pane, max_size=4)), max_size=5))
def test_whatever_a_row_holds_comes_back(held_by: list) -> None:
    heads = rows.join([None] * len(held_by)).heads
    first = np.cumsum([0, *(len(one[3]) for one in held_by)])
    measures = np.array([m for one in held_by for m, _ in one[3]], np.int64).reshape(-1, WIDTH)
    measures[:, VOCABULARY.column("spend")] = [spend for one in held_by for _, spend in one[3]]
    for i, (events, sessions, orders, _) in enumerate(held_by):
        for name, held, room in (("ids", events, 16), ("sessions", sessions, 8), ("orders", orders, 8)):
            heads[name][i, : len(held[:room])] = held[:room]
    start = np.arange(first[-1])
    again = rows.join(rows.cut(rows.pack(heads, rows.Panes(first, start, measures))))
    for name in set(heads.dtype.names or ()) - {"held"}:
        assert (again.heads[name] == heads[name]).all(), name
    panes = rows.panes(again)
    assert panes.first.tolist() == first.tolist()
    assert panes.start.tolist() == start.tolist()
    assert panes.measures.tolist() == measures.tolist()


def slots(stored: list[int]) -> list[int]:
    """The state of alert rules as a row of today holds it."""
    return stored + [0] * (LAYOUTS[LAYOUT].alert_slots - len(stored))


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [4, 2, 1, 5, 3, 0], [1], [3], [5]])
def test_rows_that_were_written_before_hold_what_they_held(order: list[int]) -> None:
    """Layout 1 knew no `born` and `followed`, and had three slots for alert rules; layout 2 had four."""
    chosen = [STORED["rows"][i] for i in order]
    stored = [base64.b64decode(one["row"]) for one in chosen]
    assert rows.unreadable(stored) == []
    joined = rows.join(stored)
    heads, panes = joined.heads, rows.panes(joined)
    columns = VOCABULARY.columns(STORED["measures"])
    for i, (one, row) in enumerate(zip(chosen, stored, strict=True)):
        head = one["head"] | {name: slots(one["head"][name]) for name in ("alert", "alert_since")}
        assert {name: heads[name][i].tolist() for name in head} == head
        assert heads["totals"][i, columns].tolist() == one["totals"]
        mine = slice(panes.first[i], panes.first[i + 1])
        held = np.c_[panes.start[mine], panes.measures[mine][:, columns]].tolist()
        assert held == sorted(one["panes"])
        assert rows.clock_of(row) == one["head"]["clock"]


@pytest.mark.parametrize("newest", [2, 3])
def test_rows_of_released_layouts_are_written_byte_for_byte_as_before(newest: int) -> None:
    layouts = {number: LAYOUTS[number] for number in range(1, newest + 1)}
    lines = tuple(line for line in TABLE if line.measure in LAYOUTS[newest].measures)
    codec = rows.RowCodec(Vocabulary(lines), layouts)
    for layout in layouts:
        stored = [base64.b64decode(one["row"]) for one in STORED["rows"] if one["layout"] == layout]
        written = [base64.b64decode(one["row"]) for one in STORED["rows"] if one["layout"] == newest]
        joined = codec.join(written)
        if layout == 1:  # what a row of an older layout lacked is 0
            joined.heads["born"] = joined.heads["followed"] = 0
        joined.heads["alert"][:, LAYOUTS[layout].alert_slots :] = 0
        joined.heads["alert_since"][:, LAYOUTS[layout].alert_slots :] = 0
        assert codec.cut(codec.join(stored)) == codec.cut(joined)
        assert layout != newest or codec.cut(codec.join(stored)) == stored


def test_another_layout_is_refused() -> None:
    joined = rows.join([None])
    for number in (99, 258):
        joined.heads["layout"] = number
        row = rows.cut(joined)[0]
        with pytest.raises(rows.LayoutError, match=str(number)):
            rows.join([row])
    joined.heads["layout"] = 99
    row = rows.cut(joined)[0]
    with pytest.raises(rows.LayoutError, match="99"):
        rows.join([None, row])
    with pytest.raises(rows.LayoutError, match="99"):
        rows.clock_of(row)


def test_what_is_no_row_is_told() -> None:
    good = [base64.b64decode(one["row"]) for one in STORED["rows"]]
    whole = [good[0], good[0][:-1], b"", good[2][:50], b"\x63\x00" + good[2][2:], good[2], good[3] + b"x"]
    assert rows.unreadable(whole) == [1, 2, 3, 4, 6]
