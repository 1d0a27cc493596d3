"""Whether an encoder is to be trained now: a function of what there is and what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FRESH = 0.05  # share of the rows that must be new: the same ones again would teach the same
SOON = 0.1  # of the interval, before which drift is no reason for another one
LEAST = 100  # new rows, before which it is none either


@dataclass(frozen=True, slots=True)
class LastTraining:
    """The last training."""

    at: float  # seconds
    after: int  # next offset after the last row of the window


def reason(
    now: float, last: LastTraining | None, rows: int, fresh: int, drifted: Sequence[str], *, first: int, every: float
) -> str | None:
    """Why to train at `now` (seconds), None where there is no reason.

    rows: in the window, fresh: of them since the last training; drifted: reasons of Drift.due; first: rows that the
    first training takes, every: seconds.

    >>> reason(0.0, None, 500, 500, [], first=400, every=3600.0)
    'the first 500 rows'
    """
    if last is None:
        return f"the first {rows} rows" if rows >= first else None
    passed = now - last.at
    if drifted and fresh >= LEAST and passed >= SOON * every:
        return "; ".join(drifted)
    if passed >= every and fresh >= FRESH * rows:
        return f"{passed / 60:.0f} minutes and {fresh} rows since the last"
    return None
