"""Features: windows and row to the raw matrix, one line a step: numerators, denominators, plain columns.

Ratios say more about a shopper than counts (measured: batch k-means on shrunken ratios finds planted kinds of
shopper at an adjusted Rand index of 0.85, on raw counts 0.07). Their shrinkage and scaling are learned and
belong to the model, so a line here holds sums and logarithms only.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from state.compiled import compiled
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
_MEASURE_RATIOS = len(RATIOS)
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
    out = np.empty((len(windows), 2 * R + len(PLAIN)))
    _sums(windows, hours, _terms(vocabulary), out)
    plain = np.ascontiguousarray(out[:, 2 * R :])
    # numpy's logarithm of many numbers, which may differ in the last bit from that of one number
    out[:, 2 * R :] = np.log1p(plain)
    return out


class _Terms(NamedTuple):
    """Which sums of measures make which column of the raw matrix, t of them; a column may have several."""

    ratio: NDArray[np.int64]  # (t, 2): column of the raw matrix, column of the measure
    plain: NDArray[np.int64]  # (u, 3): column of the raw matrix, window, column of the measure


@cache
def _terms(vocabulary: Vocabulary) -> _Terms:
    ratio = [(i, vocabulary.column(name)) for i, one in enumerate(RATIOS) for name in one.above]
    ratio += [(R + i, vocabulary.column(name)) for i, one in enumerate(RATIOS) for name in one.below]
    plain = [(2 * R + i, one.window, vocabulary.column(name)) for i, one in enumerate(PLAIN) for name in one.measures]
    return _Terms(np.array(ratio, np.int64), np.array(plain, np.int64))


@compiled
def _sums(windows: NDArray[np.int64], hours: NDArray[np.int64], terms: _Terms, out: NDArray[np.float64]) -> None:
    """Set out to the raw matrix before the logarithm of its plain columns."""
    ratio, plain = terms.ratio, terms.plain
    week, month = np.zeros(2 * R, np.int64), np.zeros(2 * R, np.int64)
    for step in range(len(out)):
        week[:] = 0
        month[:] = 0
        for i in range(len(ratio)):
            week[ratio[i, 0]] += windows[step, _7D, ratio[i, 1]]
            month[ratio[i, 0]] += windows[step, _30D, ratio[i, 1]]
        for i in range(2 * R):
            out[step, i] = week[i] + MONTH * month[i]
        for i in range(_MEASURE_RATIOS):  # refunds can bring a numerator below 0
            out[step, i] = max(out[step, i], 0.0)
        total = 0.0
        for block in range(8):
            total += hours[step, block]
        for i in range(len(BLOCKS)):
            out[step, _MEASURE_RATIOS + i] = float(hours[step, 2 * i] + hours[step, 2 * i + 1])
            out[step, R + _MEASURE_RATIOS + i] = total
        for i in range(2 * R, out.shape[1]):
            out[step, i] = 0.0
        for i in range(len(plain)):
            out[step, plain[i, 0]] += windows[step, plain[i, 1], plain[i, 2]]
        for i in range(2 * R, out.shape[1]):
            out[step, i] = max(out[step, i], 0.0)
