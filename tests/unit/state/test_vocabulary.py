"""The table of event types and measures, as it was published, and the page that describes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from state.vocabulary import ANY, TABLE, VOCABULARY, Adds, Line, Unit, Vocabulary
from streams.frame import COLUMNS

PAGE = Path(__file__).parents[3] / "docs" / "measures.md"


def test_published_columns_stay_in_their_order() -> None:
    """Columns of files that readers have: one may be added, none may be moved or lost."""
    ten = ("page_views", "product_views", "searches", "carts", "cart_removals")
    ten += ("checkouts", "orders", "items", "spend", "sessions")
    assert [name for name in VOCABULARY.published if name in ten] == list(ten)
    assert set(COLUMNS) >= {f"{name}_{window}" for name in ten for window in ("1h", "24h", "7d", "30d")}
    assert "refunds_24h" not in COLUMNS


def test_units() -> None:
    units = {name: VOCABULARY.unit(name) for name in VOCABULARY.measures}
    assert (units["spend"], units["items"], units["orders"]) == (Unit.MONEY, Unit.PIECES, Unit.COUNT)


def test_unknown_types_have_a_code_of_their_own() -> None:
    codes = [VOCABULARY.code(name) for name in VOCABULARY.event_types]
    assert codes == list(range(len(codes)))
    assert VOCABULARY.code("click") == VOCABULARY.other == len(codes)
    assert ANY not in VOCABULARY.event_types


def test_an_unknown_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="no_such_one"):
        VOCABULARY.column("no_such_one")


def test_lines_of_one_measure_have_one_unit_and_are_published_together() -> None:
    for line in (Line("gift", "spend"), Line("gift", "refunds"), Line("gift", "carts", Adds.AMOUNT)):
        with pytest.raises(ValueError, match=line.measure):
            Vocabulary((*TABLE, line))


def test_the_page_has_each_measure_with_its_event_types() -> None:
    said = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"\| `(\w+)` \|.*\|([^|]*)\|$", line):
            said[found[1]] = set(re.findall(r"`(\w+)`", found[2]))
    expected = {
        name: {line.event_type for line in TABLE if line.measure == name} - {ANY} for name in VOCABULARY.measures
    }
    assert said == expected
