"""Event types and measures: the one table of what each event type adds to which measure.

To add a measure, add one line to `TABLE` (docs/measures.md has the recipe). Everything else follows from the table: the
codes of the types, the columns of the arrays, what a stored row holds, the columns of the feature table. Nobody refers
to a measure by a number; `VOCABULARY.column(name)` tells where it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property

ANY = "*"  # in the table: events of every type, unknown ones included


class Unit(Enum):
    """What a measure counts. The unit decides the width of its cells in a row, and the type of its published column."""

    COUNT = auto()  # events, orders, sessions: never negative, at most 2**32 - 1 in a pane
    PIECES = auto()  # pieces of a product: never negative
    MONEY = auto()  # minor units (cents), of either sign


class Adds(Enum):
    """What one event adds to a measure."""

    ONE = auto()
    NEW_ORDER = auto()  # 1 for the first purchase of an order: its transaction, else its session
    NEW_SESSION = auto()  # 1 for the first event of a session
    TAKEN_BACK = auto()  # 1 where the quantity is negative
    QUANTITY = auto()  # the quantity, 0 where it is negative
    AMOUNT = auto()  # the amount: price times quantity, in minor units
    MINUS_AMOUNT = auto()  # the amount, always taken off

    @property
    def unit(self) -> Unit:
        """What a measure counts that this is added to."""
        return _UNITS.get(self, Unit.COUNT)


_UNITS = {Adds.QUANTITY: Unit.PIECES, Adds.AMOUNT: Unit.MONEY, Adds.MINUS_AMOUNT: Unit.MONEY}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: events of a type add something to a measure."""

    event_type: str
    measure: str
    adds: Adds = Adds.ONE
    published: bool = True  # False: kept in the rows for alerts and features, no column of the feature table


TABLE = (
    Line("page_view", "page_views"),
    Line("view", "product_views"),
    Line("search", "searches"),
    Line("add_to_cart", "carts"),
    Line("remove_from_cart", "cart_removals"),
    Line("checkout", "checkouts"),
    Line("purchase", "orders", Adds.NEW_ORDER),
    Line("purchase", "items", Adds.QUANTITY),
    Line("purchase", "spend", Adds.AMOUNT),
    Line("refund", "spend", Adds.MINUS_AMOUNT),
    Line(ANY, "sessions", Adds.NEW_SESSION),
    Line("refund", "refunds", published=False),
    Line("purchase", "refunds", Adds.TAKEN_BACK, published=False),
)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A table of lines, and what follows from it.

    A vocabulary is an argument wherever it matters, so that a test can try another one. ValueError where two lines of a
    measure differ in unit or in being published.

    >>> VOCABULARY.column("product_views"), VOCABULARY.unit("spend")
    (1, <Unit.MONEY: 3>)
    """

    table: tuple[Line, ...]

    def __post_init__(self) -> None:
        for measure in self.measures:
            if len({(line.adds.unit, line.published) for line in self.lines_of(measure)}) > 1:
                raise ValueError(f"the lines of the measure {measure!r} differ in unit, or in being published")

    def lines_of(self, measure: str) -> list[Line]:
        """The lines that add to a measure."""
        return [line for line in self.table if line.measure == measure]

    @cached_property
    def event_types(self) -> tuple[str, ...]:
        """The known types; the place of one is its code in an event batch."""
        return _distinct(line.event_type for line in self.table if line.event_type != ANY)

    @property
    def other(self) -> int:
        """The code of every unknown type: such an event counts towards sessions and activity only."""
        return len(self.event_types)

    def code(self, event_type: str) -> int:
        """The code of a type."""
        return self.event_types.index(event_type) if event_type in self.event_types else self.other

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """All measures; the place of one is its column in every array of measures."""
        return _distinct(line.measure for line in self.table)

    @cached_property
    def published(self) -> tuple[str, ...]:
        """The measures that are columns of the feature table."""
        return _distinct(line.measure for line in self.table if line.published)

    def column(self, measure: str) -> int:
        """The column of a measure; ValueError where there is no such measure."""
        if measure not in self._columns:
            raise ValueError(f"no such measure: {measure}")
        return self._columns[measure]

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {measure: i for i, measure in enumerate(self.measures)}

    def columns(self, measures: Iterable[str]) -> list[int]:
        """The columns of measures, in their order; an index for numpy."""
        return [self.column(measure) for measure in measures]

    def unit(self, measure: str) -> Unit:
        """What a measure counts; ValueError where there is no such measure."""
        self.column(measure)
        return self.lines_of(measure)[0].adds.unit

    @cached_property
    def requests(self) -> tuple[str, ...]:
        """The published measures that count the events of one type each: together, what a shopper asked for."""
        return tuple(
            measure for measure in self.published if all(line.adds is Adds.ONE for line in self.lines_of(measure))
        )


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


VOCABULARY = Vocabulary(TABLE)
