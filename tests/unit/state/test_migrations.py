"""A table with one more measure: rows of the layouts before are read under it, and everything else stays."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from state import features, history, windows
from state.layout import LAYOUT, LAYOUTS, RowLayout
from state.rows import CODEC, LayoutError, RowCodec
from state.stores.rocksdb import ForeignStore, Meta, RowStore
from state.vocabulary import TABLE, VOCABULARY, Adds, Line, Unit, Vocabulary
from tests.support.events.histories import random_events

NEXT = LAYOUT + 1
GIFT = Line("gift", "gifts")
ROWS = json.loads((Path(__file__).parent / "stored_rows.json").read_text())["rows"]
OLD = [base64.b64decode(one["row"]) for one in ROWS]  # two of each layout: 1, 2, 3


def codec_of(table: tuple[Line, ...]) -> RowCodec:
    """What a newcomer's table and one more line of LAYOUTS make."""
    vocabulary = Vocabulary(table)
    units = {one: vocabulary.unit(one) for one in vocabulary.measures if vocabulary.unit(one) is not Unit.COUNT}
    return RowCodec(vocabulary, {**LAYOUTS, NEXT: RowLayout(vocabulary.measures, units)})


MORE = codec_of((*TABLE, GIFT))


@pytest.fixture(params=["last", "first", "in money"])
def more(request: pytest.FixtureRequest) -> RowCodec:
    """The new line may stand anywhere; its measure may count money."""
    table = {
        "last": (*TABLE, GIFT),
        "first": (GIFT, *TABLE),
        "in money": (*TABLE[:8], Line("gift", "gifts", Adds.AMOUNT), *TABLE[8:]),
    }
    return codec_of(table[request.param])


def test_old_rows_are_read_with_nothing_of_the_new_measure(more: RowCodec) -> None:
    joined, joined_before = more.join(OLD), CODEC.join(OLD)
    heads, before = joined.heads, joined_before.heads
    panes, panes_before = more.panes(joined), CODEC.panes(joined_before)
    assert more.unreadable(OLD) == []
    assert (panes.first == panes_before.first).all()
    assert (panes.start == panes_before.start).all()
    same, new = more.vocabulary.columns(VOCABULARY.measures), more.vocabulary.column("gifts")
    for found, expected in ((heads["totals"], before["totals"]), (panes.measures, panes_before.measures)):
        assert (found[:, same] == expected).all()
        assert not found[:, new].any()
    for name in set(before.dtype.names or ()) - {"totals", "layout"}:
        assert (heads[name] == before[name]).all(), name


def test_they_are_written_in_the_new_layout_which_the_version_before_refuses(more: RowCodec) -> None:
    joined = more.join(OLD)
    cut = more.cut(joined)
    assert {int.from_bytes(row[:2], "little") for row in cut} == {NEXT}
    again = more.join(cut)
    assert (again.heads == joined.heads).all()
    assert more.panes(again).start.tolist() == more.panes(joined).start.tolist()
    assert (more.panes(again).measures == more.panes(joined).measures).all()
    assert [more.clock_of(row) for row in cut] == [CODEC.clock_of(row) for row in OLD]
    assert more.cut(more.join([OLD[0], cut[1], None])) == [cut[0], cut[1], more.blank]
    with pytest.raises(LayoutError, match=str(NEXT)):
        CODEC.join([OLD[0], cut[1]])


def shopping(codec: RowCodec, gifts: bool) -> tuple[np.ndarray, history.Events]:
    """Events of the two users of the old rows, of every type; gifts: some of the unknown ones are gifts."""
    rng = np.random.default_rng(4)
    n = 200
    types = [*VOCABULARY.event_types, "gift" if gifts else "something", "else"]
    chosen = [types[i] for i in rng.integers(0, len(types), n)]
    time = max(map(CODEC.clock_of, OLD)) + np.cumsum(rng.integers(0, 7_200_000, n))
    row = np.sort(rng.integers(0, 2, n))
    codes = np.array([codec.vocabulary.code(one) for one in chosen])
    return row, random_events(rng, time, codes)


def applied(codec: RowCodec, row: np.ndarray, events: history.Events) -> tuple[history.Steps, list[bytes]]:
    joined, asked = codec.join([OLD[0], OLD[3]]), history.asked_by_events(np.zeros(2, bool))
    first_event = np.searchsorted(row, np.arange(3))
    result = history.apply(joined, events, np.arange(len(row)), first_event, asked, codec)
    return result.steps, codec.cut(result.rows)


def test_new_events_count_in_the_new_measure_and_nothing_else_changes(more: RowCodec) -> None:
    before, rows_before = applied(CODEC, *shopping(CODEC, gifts=False))
    steps, stored = applied(more, *shopping(more, gifts=True))
    same, new = more.vocabulary.columns(VOCABULARY.measures), more.vocabulary.column("gifts")
    assert (steps.windows[:, :, same] == before.windows).all()
    assert (steps.lifetime == before.lifetime).all()
    raw = features.raw(steps.windows, steps.hours, more.vocabulary)
    assert (raw == features.raw(before.windows, before.hours)).all()
    joined = more.join(stored)
    heads = joined.heads
    assert heads["totals"][:, new].all()
    assert more.panes(joined).measures[:, new].any()
    assert steps.windows[:, windows.WINDOWS.index("30d"), new].max() > 0
    for name in set(heads.dtype.names or ()) - {"totals", "layout"}:
        assert (heads[name] == CODEC.join(rows_before).heads[name]).all(), name


def test_a_store_of_the_layout_before_is_opened_and_one_of_a_later_layout_is_not(tmp_path: Path) -> None:
    meta = Meta("shoal", 0, 4)
    store = RowStore(tmp_path / "0", meta, cache_rows=10)
    store.write_flush({b"a": OLD[0], b"b": OLD[3]}, 1)
    store.close()
    later = Meta("shoal", 0, 4, layout=NEXT)
    store = RowStore(tmp_path / "0", later, cache_rows=10)
    heads = MORE.join(store.get_many([b"a", b"b"])).heads
    assert heads["last"].tolist() == CODEC.join([OLD[0], OLD[3]]).heads["last"].tolist()
    store.close()
    with pytest.raises(ForeignStore, match=f"layout {NEXT}"):
        RowStore(tmp_path / "0", meta, cache_rows=10)


def test_a_table_without_its_layout_is_told_which_line_is_missing() -> None:
    with pytest.raises(ValueError, match=rf"needs a line {NEXT} .*'gifts'"):
        RowCodec(MORE.vocabulary, LAYOUTS)


def test_the_requests_of_an_hour_include_the_new_type() -> None:
    six = ("page_views", "product_views", "searches", "carts", "cart_removals", "checkouts")
    assert VOCABULARY.requests[:6] == six
    assert MORE.vocabulary.requests == (*VOCABULARY.requests, "gifts")
