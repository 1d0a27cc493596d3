"""Windows and row -> the raw matrix, one line a step: numerators, denominators, plain columns.

Ratios say more about a shopper than counts (measured: batch k-means on shrunken ratios finds planted kinds of
shopper at an adjusted Rand index of 0.85, on raw counts 0.07). Their shrinkage and scaling are learned and
belong to the model, so a line here holds sums and logarithms only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state import rows

_1H, _24H, _7D, _30D = range(4)
# name, what a high value means in words, (window, measures above), (window, measures below)
RATIOS: tuple[tuple[str, str, tuple[int, ...], tuple[int, ...]], ...] = (
    ("views_per_page", "product views among pages", (rows.PRODUCT_VIEWS,), (rows.PAGE_VIEWS, rows.PRODUCT_VIEWS)),
    ("carts_per_view", "carts per product view", (rows.CARTS,), (rows.PRODUCT_VIEWS,)),
    ("orders_per_cart", "orders per cart", (rows.ORDERS,), (rows.CARTS,)),
    ("orders_per_view", "orders per product view", (rows.ORDERS,), (rows.PRODUCT_VIEWS,)),
    ("removals_per_cart", "carts taken back", (rows.CART_REMOVALS,), (rows.CARTS,)),
    ("searches_per_page", "searches per page", (rows.SEARCHES,), (rows.PAGE_VIEWS, rows.PRODUCT_VIEWS)),
    ("pages_per_session", "pages per session", (rows.PAGE_VIEWS, rows.PRODUCT_VIEWS), (rows.SESSIONS,)),
    ("spend_per_order", "spend per order", (rows.SPEND,), (rows.ORDERS,)),
    ("refunds_per_order", "orders paid back", (rows.REFUNDS,), (rows.ORDERS,)),
)  # fmt: skip
MONTH = 0.125  # weight of thirty days beside seven: a week alone has too few events for a steady ratio
BLOCKS = ("night", "morning", "afternoon", "evening")
PLAIN: tuple[tuple[str, str, int, tuple[int, ...]], ...] = (
    ("pages_7d", "pages in seven days", _7D, (rows.PAGE_VIEWS, rows.PRODUCT_VIEWS)),
    ("carts_7d", "carts in seven days", _7D, (rows.CARTS,)),
    ("orders_30d", "orders in thirty days", _30D, (rows.ORDERS,)),
    ("spend_30d", "spend in thirty days", _30D, (rows.SPEND,)),
    ("sessions_30d", "sessions in thirty days", _30D, (rows.SESSIONS,)),
)
R = len(RATIOS) + len(BLOCKS)
_DAYS = {_7D: 7.0, _30D: 30.0}
# days that each feature looks back; the affinities halve weekly
MEMORY = [(7.0 + MONTH * 30.0) / (1.0 + MONTH)] * len(RATIOS) + [14.0] * len(BLOCKS) + [_DAYS[p[2]] for p in PLAIN]
NAMES = [r[0] for r in RATIOS] + [f"share_{b}" for b in BLOCKS] + [p[0] for p in PLAIN]
PHRASES = [r[1] for r in RATIOS] + [f"events in the {b}" for b in BLOCKS] + [p[1] for p in PLAIN]


def raw(windows: NDArray[np.int64], hours: NDArray[np.int64]) -> NDArray[np.float64]:
    """The raw matrix (n, 2R + L) float64: R numerators, R denominators, L plain columns.

    windows (n, 4, 11) as of each step, hours (n, 8) decayed events by three-hour block. Ratios are of seven days, and
    of thirty at MONTH of their weight. Elementwise: a line does not depend on the batch around it. Money is in minor
    units. Source: quality figures in DESIGN.md.
    """
    n = len(windows)
    out = np.empty((2 * R + len(PLAIN), n))
    week, month = windows[:, _7D], windows[:, _30D]
    for i, (_, _, above, below) in enumerate(RATIOS):
        out[i] = np.maximum(_total(week, above) + MONTH * _total(month, above), 0.0)
        out[R + i] = _total(week, below) + MONTH * _total(month, below)
    base, events = len(RATIOS), hours.astype(np.float64)
    total = np.zeros(n)
    for i in range(8):
        total += events[:, i]
    for i in range(len(BLOCKS)):
        out[base + i] = events[:, 2 * i] + events[:, 2 * i + 1]
        out[R + base + i] = total
    for i, (_, _, window, columns) in enumerate(PLAIN):
        out[2 * R + i] = np.log1p(np.maximum(_total(windows[:, window], columns), 0.0))
    return np.ascontiguousarray(out.T)


def _total(block: NDArray[np.int64], columns: tuple[int, ...]) -> NDArray[np.float64]:
    total = block[:, columns[0]]
    for column in columns[1:]:
        total = total + block[:, column]
    return total.astype(np.float64)
