"""Compile the loops over events where that has not been done yet: once a release, at set-up or at the first start."""

from __future__ import annotations

import logging

from state import compiled
from streams.processing.compile_ahead import compile_ahead

log = logging.getLogger(__name__)


def ensure_compiled() -> None:
    """Compile, or load what was compiled before; log what takes long, and why it will take long again."""
    if compiled.CACHE is None:
        log.warning(
            "compiled code cannot be kept: its folder cannot be written. Every start compiles for some twenty seconds; "
            "set SHOAL_CACHE to a folder that can be written"
        )
    elif not compiled.is_filled():
        log.info("compiling the loops over events, once for this version: some twenty seconds")
    compile_ahead()


if __name__ == "__main__":
    ensure_compiled()
