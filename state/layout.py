"""What a stored row looks like: its fields by name, and every layout that rows were ever written in.

A stored row is a head of fixed length, then the recent ids that there are (8 bytes each), then the panes whose numbers
are small, then the other panes. Most users have few ids and small panes, so the fixed widths of the arrays would triple
a row.

`LAYOUTS` has one line a layout. Rows are written in the newest and read in all of them: fields and measures go by their
names, and what an older row lacks is 0 (state/migrations.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from state.vocabulary import Unit

Heads = NDArray[np.void]  # (n,) of a head dtype
Ints = NDArray[np.int64]

NEVER = -(1 << 62)  # a time before all times
UNASSIGNED = -1  # no segment

ALERT_SLOTS = "alert slots"  # lengths of fields that depend on the layout
MEASURES = "measures"
# name, type, length (none: a single value). Times in ms unless a comment says otherwise.
HEAD_FIELDS: tuple[tuple[str, str, int | str | None], ...] = (
    ("layout", "<u2", None),
    ("alert", "u1", ALERT_SLOTS),  # level of each alert rule, at the slot that the rule names; 0 quiet
    ("hour_events", "<u2", None),  # events in the active hour, for the choice of training rows
    ("birth", "<i8", None),  # ordinal in the partition of the user's first event, -1: no event yet
    ("clock", "<i8", None),  # as of when the last step was judged
    ("last", "<i8", None),  # largest event time
    ("hour", "<u4", None),  # the active hour, in hours since the epoch
    ("epoch", "<u4", None),  # week of the affinities' decay, in weeks since the epoch
    ("totals", "<i8", MEASURES),  # sums over the user's whole life
    ("ids", "<u8", 16),  # recent event ids, newest first
    ("sessions", "<u8", 8),  # recent sessions, likewise
    ("orders", "<u8", 8),
    # The affinity part. Of it only `hours` is a feature today. Categories, brands and places are kept so that a segment
    # can be described by them (the share of its shoppers that look at a category or brand, or are in a place); rows
    # that did not gather them from the start could not be described later.
    ("hours", "<u2", 8),  # decayed events by three hours of the shop's day
    ("category", "<u4", 4),  # hashes of the categories with the most decayed events, 0 for none
    ("category_weight", "<u2", 4),
    ("brand", "<u4", 4),
    ("brand_weight", "<u2", 4),
    ("place", "<u4", 3),  # hashes of country, region, city as last seen
    ("segment", "<i4", None),
    ("since", "<i8", None),  # as of when the last change of segment was judged
    ("frm", "<i4", None),  # the segment before it
    ("cause", "u1", None),  # of it
    ("change_model", "<u4", None),  # version under which it was judged
    ("seq", "<u4", None),  # changes of segment so far
    ("alert_seq", "<u4", None),
    ("model", "<u4", None),  # version under which the segment was judged last
    ("alert_since", "<i8", ALERT_SLOTS),  # when each rule's alert opened
    ("born", "<u4", None),  # time of the first event applied, in units of five minutes; 0 not known
    ("followed", "u1", None),  # 1: training rows of its first day were sent, so its day's end is too
)
IDS = {"ids": 16, "sessions": 8, "orders": 8}  # stored behind the head, as many as there are; `held` counts them


@dataclass(frozen=True, slots=True)
class _Cell:
    """The types of a measure's cell in a pane: in memory and in a pane with large numbers, and in a small pane."""

    large: str
    small: str


_CELLS = {Unit.COUNT: _Cell("<u4", "u1"), Unit.PIECES: _Cell("<i8", "u1"), Unit.MONEY: _Cell("<i8", "<i4")}


_UNITS = {"items": Unit.PIECES, "spend": Unit.MONEY}  # of the measures that are not counts


@dataclass(frozen=True)
class RowLayout:
    """A layout by names; all numpy types of it follow.

    measures: in the order of `totals`. units: of the measures that are not counts. lacks: fields of the head that came
    with a later layout. alert_slots: places for alert rules.
    """

    measures: tuple[str, ...]
    units: Mapping[str, Unit] = field(default_factory=lambda: _UNITS)
    lacks: frozenset[str] = frozenset()
    alert_slots: int = 8

    def unit(self, measure: str) -> Unit:
        return self.units.get(measure, Unit.COUNT)

    @cached_property
    def counts(self) -> tuple[str, ...]:
        """The measures that are counts: the first cells of a pane, side by side."""
        return tuple(one for one in self.measures if self.unit(one) is Unit.COUNT)

    @cached_property
    def wide(self) -> tuple[str, ...]:
        """The other measures: the last cells of a pane."""
        return tuple(one for one in self.measures if self.unit(one) is not Unit.COUNT)

    def _field(self, name: str, kind: str, length: int | str | None) -> tuple[Any, ...]:
        if length is None:
            return name, kind
        lengths: dict[int | str, int] = {ALERT_SLOTS: self.alert_slots, MEASURES: len(self.measures)}
        return name, kind, lengths.get(length, length)

    @cached_property
    def head(self) -> np.dtype[np.void]:
        """A head in memory: as it is stored, then all places for ids."""
        ids = [self._field(*one) for one in HEAD_FIELDS if one[0] in IDS]
        return np.dtype([*self._stored_fields, *ids])

    @cached_property
    def stored_head(self) -> np.dtype[np.void]:
        """A head in a stored row: without the ids, but with their numbers (`held`) and that of the small panes."""
        return np.dtype(self._stored_fields)

    @property
    def _stored_fields(self) -> list[tuple[Any, ...]]:
        kept = [self._field(*one) for one in HEAD_FIELDS if one[0] in self.head_names]
        return [*kept, ("held", "u1", len(IDS)), ("small", "<u2")]

    @cached_property
    def head_names(self) -> tuple[str, ...]:
        """The fields that a head has both in memory and in a stored row."""
        return tuple(one[0] for one in HEAD_FIELDS if one[0] not in self.lacks and one[0] not in IDS)

    def offset(self, name: str) -> int:
        """Where a field of the head begins in a stored row."""
        fields = self.stored_head.fields
        assert fields is not None
        return int(fields[name][1])

    @cached_property
    def pane(self) -> np.dtype[np.void]:
        """A pane in memory, and in a stored row where its numbers are large; start in units of five minutes."""
        return self._pane(small=False)

    @cached_property
    def small_pane(self) -> np.dtype[np.void]:
        """A pane in a stored row whose numbers are small."""
        return self._pane(small=True)

    def _pane(self, *, small: bool) -> np.dtype[np.void]:
        def kind(unit: Unit) -> str:
            return _CELLS[unit].small if small else _CELLS[unit].large

        counts = ("counts", kind(Unit.COUNT), len(self.counts))
        return np.dtype([("start", "<u4"), counts, *((one, kind(self.unit(one))) for one in self.wide)])


_ELEVEN = (
    "page_views",
    "product_views",
    "searches",
    "carts",
    "cart_removals",
    "checkouts",
    "orders",
    "items",
    "spend",
    "sessions",
    "refunds",
)
# A line once released never changes: rows of it lie on disks and in changelogs. A new measure needs a new line, e.g.
#     4: RowLayout((*_ELEVEN, "wishlists")),
LAYOUTS: dict[int, RowLayout] = {
    1: RowLayout(_ELEVEN, lacks=frozenset({"born", "followed"}), alert_slots=3),
    2: RowLayout(_ELEVEN, alert_slots=4),
    3: RowLayout(_ELEVEN),
}
LAYOUT = max(LAYOUTS)  # the one that rows are written in
