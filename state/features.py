"""Features: windows and row to the raw matrix, one line a step: numerators, denominators, plain columns.

Ratios say more about a shopper than counts (measured: batch k-means on shrunken ratios finds planted kinds of
shopper at an adjusted Rand index of 0.85, on raw counts 0.07). Their shrinkage and scaling are learned and
belong to the model, so a line here holds sums and logarithms only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from state.vocabulary import VOCABULARY, Unit, Vocabulary
from state.windows import WINDOWS

_7D, _30D = WINDOWS.index("7d"), WINDOWS.index("30d")
_DAYS = {_7D: 7.0, _30D: 30.0}


class Ratio(NamedTuple):
    """A sum of measures over another, of seven days with a part of thirty."""

    name: str
    phrase: str  # what a high value means
    above: tuple[str, ...]  # measures
    below: tuple[str, ...]


class Plain(NamedTuple):
    """The logarithm of a sum of measures over one window."""

    name: str
    phrase: str
    window: int
    measures: tuple[str, ...]


_PAGES = ("page_views", "product_views")
RATIOS = (
    Ratio("views_per_page", "product views among pages", ("product_views",), _PAGES),
    Ratio("carts_per_view", "carts per product view", ("carts",), ("product_views",)),
    Ratio("orders_per_cart", "orders per cart", ("orders",), ("carts",)),
    Ratio("orders_per_view", "orders per product view", ("orders",), ("product_views",)),
    Ratio("removals_per_cart", "carts taken back", ("cart_removals",), ("carts",)),
    Ratio("searches_per_page", "searches per page", ("searches",), _PAGES),
    Ratio("pages_per_session", "pages per session", _PAGES, ("sessions",)),
    Ratio("spend_per_order", "spend per order", ("spend",), ("orders",)),
    Ratio("refunds_per_order", "orders paid back", ("refunds",), ("orders",)),
)
MONTH = 0.125  # weight of thirty days beside seven: a week alone has too few events for a steady ratio
BLOCKS = ("night", "morning", "afternoon", "evening")
PLAIN = (
    Plain("pages_7d", "pages in seven days", _7D, _PAGES),
    Plain("carts_7d", "carts in seven days", _7D, ("carts",)),
    Plain("orders_30d", "orders in thirty days", _30D, ("orders",)),
    Plain("spend_30d", "spend in thirty days", _30D, ("spend",)),
    Plain("sessions_30d", "sessions in thirty days", _30D, ("sessions",)),
)
R = len(RATIOS) + len(BLOCKS)  # ratios in the raw matrix: those of measures, then the shares of the day's blocks
# days that each feature looks back; the affinities halve weekly
MEMORY = (
    [(7.0 + MONTH * 30.0) / (1.0 + MONTH)] * len(RATIOS)
    + [14.0] * len(BLOCKS)
    + [_DAYS[plain.window] for plain in PLAIN]
)
NAMES = [ratio.name for ratio in RATIOS] + [f"share_{block}" for block in BLOCKS] + [plain.name for plain in PLAIN]
PHRASES = (
    [ratio.phrase for ratio in RATIOS]
    + [f"events in the {block}" for block in BLOCKS]
    + [plain.phrase for plain in PLAIN]
)
IN_MONEY = frozenset(
    [ratio.name for ratio in RATIOS if VOCABULARY.unit(ratio.above[0]) is Unit.MONEY]
    + [plain.name for plain in PLAIN if VOCABULARY.unit(plain.measures[0]) is Unit.MONEY]
)


def raw(
    windows: NDArray[np.int64], hours: NDArray[np.int64], vocabulary: Vocabulary = VOCABULARY
) -> NDArray[np.float64]:
    """The raw matrix (n, 2R + L) float64: R numerators, R denominators, L plain columns.

    windows (n, 4, measures) as of each step, hours (n, 8) decayed events by three-hour block. Ratios are of seven days,
    and of thirty at MONTH of their weight. Elementwise: a line does not depend on the batch around it. Money is in
    minor units. Source: docs/figures.md, quality of segments.
    """
    n = len(windows)
    out = np.empty((2 * R + len(PLAIN), n))
    week, month = windows[:, _7D], windows[:, _30D]
    ratios, plains = _columns(vocabulary)
    for i, (above, below) in enumerate(ratios):
        out[i] = np.maximum(_total(week, above) + MONTH * _total(month, above), 0.0)
        out[R + i] = _total(week, below) + MONTH * _total(month, below)
    base, events = len(RATIOS), hours.astype(np.float64)
    total = np.zeros(n)
    for i in range(8):
        total += events[:, i]
    for i in range(len(BLOCKS)):
        out[base + i] = events[:, 2 * i] + events[:, 2 * i + 1]
        out[R + base + i] = total
    for i, (window, columns) in enumerate(plains):
        in_window = _total(windows[:, window], columns)
        out[2 * R + i] = np.log1p(np.maximum(in_window, 0.0))
    return np.ascontiguousarray(out.T)


@cache
def _columns(vocabulary: Vocabulary) -> tuple[list[tuple[list[int], list[int]]], list[tuple[int, list[int]]]]:
    """The columns of RATIOS (above, below), and the windows and columns of PLAIN."""
    ratios = [(vocabulary.columns(ratio.above), vocabulary.columns(ratio.below)) for ratio in RATIOS]
    return ratios, [(plain.window, vocabulary.columns(plain.measures)) for plain in PLAIN]


def _total(measures: NDArray[np.int64], columns: Sequence[int]) -> NDArray[np.float64]:
    """The sum of some columns (n,)."""
    total = measures[:, columns[0]]
    for column in columns[1:]:
        total = total + measures[:, column]
    return total.astype(np.float64)
