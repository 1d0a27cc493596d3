"""The end of a worker that cannot go on."""

from __future__ import annotations

import logging
import os
import sys

from state.rows import LayoutError
from state.store import BrokenStore
from streams.errors import ShoalError, StateError

log = logging.getLogger(__name__)


def fail(error: BaseException) -> None:
    """Say why and leave the process at once: what was not committed is done again by the next owner."""
    if isinstance(error, BrokenStore):
        error = StateError(f"{error}: the next start sets it aside and rebuilds it")
    if isinstance(error, LayoutError):
        error = StateError(str(error))
    if not isinstance(error, ShoalError):
        log.critical("the worker failed", exc_info=error)
    print(f"shoal: error: {error if isinstance(error, ShoalError) else repr(error)}", file=sys.stderr, flush=True)
    os._exit(error.exit_code if isinstance(error, ShoalError) else 1)
