"""Rows of one layout in the arrays of another: fields and measures go by their names.

What the older one lacks is 0, and what the newer one no longer has is dropped. So a new measure starts at 0 in every
row, and counts from the first event that the new version applies.
"""

from __future__ import annotations

import numpy as np

from state.layout import Heads, Ints, RowLayout


def heads(old: Heads, before: RowLayout, after: RowLayout, number: int) -> Heads:
    """Heads (n,) of a layout in another, whose number is given."""
    new = np.zeros(len(old), after.head)
    for name in set(before.head.names or ()) & set(after.head.names or ()):
        if name == "totals":
            for measure in set(before.measures) & set(after.measures):
                new[name][:, after.measures.index(measure)] = old[name][:, before.measures.index(measure)]
        elif old[name].ndim > 1:  # of different lengths where one layout has fewer places for alert rules
            length = min(old[name].shape[1], new[name].shape[1])
            new[name][:, :length] = old[name][:, :length]
        else:
            new[name] = old[name]
    new["layout"] = number
    return new


def measures(old: Ints, before: RowLayout, after: RowLayout) -> Ints:
    """Measures of panes (p, m) of a layout in another."""
    new = np.zeros((len(old), len(after.measures)), np.int64)
    for measure in set(before.measures) & set(after.measures):
        new[:, after.measures.index(measure)] = old[:, before.measures.index(measure)]
    return new
