"""What goes on only where its loss was accepted."""

from __future__ import annotations

import sys

from streams.errors import LossError


def refuse(accept: bool, what: str, then: str) -> None:
    """LossError with what is lost, unless that is accepted; then it is told in a line of its own."""
    if not accept:
        raise LossError(f"{what}; --accept-loss {then}")
    tell(f"loss accepted: {what}; {then}")


def tell(text: str) -> None:
    """A line for the operator, whatever the level of the log."""
    print(f"shoal: {text}", file=sys.stderr, flush=True)
