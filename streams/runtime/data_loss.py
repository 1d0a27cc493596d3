"""Loss of data: the operator must accept it before the worker continues."""

from __future__ import annotations

import sys

from streams.errors import LossError


def refuse_loss(accepted: bool, loss: str, consequence: str) -> None:
    """Raise LossError unless the loss was accepted; print a notice if it was.

    loss: what is lost. consequence: what the worker does if it is accepted, as a verb phrase ("goes on").
    """
    if not accepted:
        raise LossError(f"{loss}; --accept-loss {consequence}")
    print_notice(f"loss accepted: {loss}; {consequence}")


def print_notice(text: str) -> None:
    """Print a line for the operator on stderr, whatever the log level."""
    print(f"shoal: {text}", file=sys.stderr, flush=True)
