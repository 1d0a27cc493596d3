"""Whether an encoder is to be trained now: a function of what there is and what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FRESH = 0.05  # share of the rows that must be new: the same ones again would teach the same
SOON = 0.1  # of the interval, before which drift is no reason for another one
LEAST = 100  # new rows, before which it is none either


@dataclass(frozen=True, slots=True)
class Done:
    """The last training."""

    at: float  # seconds
    after: int  # offset that followed the last row of the window


def reason(
    now: float, done: Done | None, rows: int, fresh: int, drifted: Sequence[str], *, first: int, every: float
) -> str | None:
    """Why to train at `now` (seconds), None where there is no reason.

    rows: in the window, fresh: of them since the last training; first: rows that the first one takes, every: seconds.
    """
    if done is None:
        return f"the first {rows} rows" if rows >= first else None
    past = now - done.at
    if drifted and fresh >= LEAST and past >= SOON * every:
        return "; ".join(drifted)
    if past >= every and fresh >= FRESH * rows:
        return f"{past / 60:.0f} minutes and {fresh} rows since the last"
    return None
