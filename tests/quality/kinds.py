"""Kinds of shopper: what one visit of each looks like."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Kind(NamedTuple):
    """Means over the shoppers of a kind; each shopper lies some way off (planted.py)."""

    name: str
    visits: float  # a day, on working days
    weekend: float  # factor on Saturdays and Sundays
    hour: float  # peak of the day, UTC
    hours: float  # standard deviation around it
    pages: float  # a visit
    views: float
    searches: float
    carts: float  # share of views
    removals: float  # share of carts
    buys: float  # share of the visits with something in the cart that end in an order
    doubts: float  # share of the other ones that reach the checkout
    price: float  # a piece
    quantity: float  # a line
    refunds: float  # share of lines that come back


# fmt: off
ALL = (
    #    name          visits wkend hour  sd   pages views srch  carts remov buys  doubt price qty  refund
    Kind("window",      0.55, 1.2, 20.0, 2.5,  6.0,  9.0, 0.6, 0.015, 0.10, 0.20, 0.10,  30, 1.1, 0.03),
    Kind("researcher",  0.50, 0.9, 15.0, 4.0,  4.0,  8.0, 4.0, 0.050, 0.10, 0.25, 0.10,  60, 1.1, 0.03),
    Kind("impulse",     0.50, 1.1, 18.0, 4.0,  1.5,  2.5, 0.1, 0.500, 0.03, 0.85, 0.10,  18, 1.1, 0.03),
    Kind("business",    0.55, 0.1, 11.0, 2.0,  2.0,  5.0, 1.5, 0.600, 0.05, 0.75, 0.30,  70, 9.0, 0.02),
    Kind("bargain",     0.70, 1.0, 17.0, 4.0,  3.0,  7.0, 1.5, 0.350, 0.55, 0.25, 0.10,  12, 1.3, 0.05),
    Kind("abandoner",   0.50, 1.0, 19.0, 4.0,  3.0,  6.0, 0.5, 0.450, 0.08, 0.04, 0.50,  45, 1.1, 0.03),
    Kind("night",       0.55, 1.0,  1.5, 1.8,  4.0,  5.0, 0.8, 0.100, 0.05, 0.40, 0.10,  35, 1.1, 0.03),
    Kind("loyal",       1.10, 1.0,  8.5, 2.0,  3.0,  2.0, 0.2, 0.250, 0.03, 0.80, 0.10,  25, 1.5, 0.02),
    Kind("returner",    0.45, 1.0, 14.0, 3.0,  5.0, 11.0, 0.4, 0.400, 0.05, 0.75, 0.10,  55, 1.2, 0.60),
    Kind("bouncer",     0.00, 1.0, 15.0, 5.0,  1.3,  0.4, 0.1, 0.010, 0.10, 0.10, 0.10,  30, 1.0, 0.03),
    Kind("gifter",      0.55, 1.0, 12.0, 3.0,  2.0,  4.0, 2.0, 0.500, 0.05, 0.80, 0.10,  35, 3.0, 0.05),  # vanishes
    Kind("livestream",  0.65, 1.0, 21.0, 1.0, 18.0,  1.5, 0.1, 0.400, 0.02, 0.70, 0.10,  22, 1.0, 0.05),  # appears
    # for the changes of the set of kinds
    Kind("planner",     0.60, 0.5,  7.0, 1.5,  2.0,  7.0, 3.0, 0.150, 0.60, 0.20, 0.10,  40, 1.1, 0.03),
    Kind("lister",      0.60, 1.0, 22.5, 1.5,  9.0,  3.0, 0.2, 0.900, 0.03, 0.03, 0.10,  20, 1.1, 0.03),
    Kind("trader",      0.80, 1.0,  6.0, 1.5,  1.0,  3.0, 3.0, 0.800, 0.03, 0.90, 0.10, 160, 6.0, 0.02),
    Kind("gallery",     0.55, 2.0, 13.0, 1.5, 14.0, 14.0, 0.1, 0.010, 0.10, 0.20, 0.10,  30, 1.1, 0.03),
)
# fmt: on
NAMES = tuple(kind.name for kind in ALL)
TABLE: NDArray[np.float64] = np.array([kind[1:] for kind in ALL], np.float64)  # (kinds, columns)
COLUMN = {name: i for i, name in enumerate(Kind._fields[1:])}
LASTING = tuple(range(9))  # kinds that are there from the first day to the last
BOUNCER, GIFTER, LIVESTREAM, PLANNER, LISTER, TRADER, GALLERY = range(9, 16)
NOBODY = -1


def number(name: str) -> int:
    return NAMES.index(name)
