"""The end of a worker that cannot go on."""

from __future__ import annotations

import logging
import os
import sys

from streams.errors import ShoalError

log = logging.getLogger(__name__)


def fail(error: BaseException) -> None:
    """Say why and leave the process at once: what was not committed is done again by the next owner."""
    if not isinstance(error, ShoalError):
        log.critical("the worker failed", exc_info=error)
    print(f"shoal: error: {error if isinstance(error, ShoalError) else repr(error)}", file=sys.stderr, flush=True)
    os._exit(error.exit_code if isinstance(error, ShoalError) else 1)
