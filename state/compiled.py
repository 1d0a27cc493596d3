"""How the loops over users and events are compiled: by numba, once, into a folder of the user's cache.

`compiled` functions are plain Python over numbers, numpy arrays and fields of records (`head["clock"]`). With the
environment variable NUMBA_DISABLE_JIT=1 they run as such, under a debugger or coverage.

numba would keep compiled code beside each source file, and would use it even after a function that it calls, in another
file, has changed. Here it lies in a folder that is named by all sources that it can depend on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
FUNCTIONS: list[Any] = []  # all that were compiled
KEPT = 5  # folders of compiled code: of this version and of those used before it


def compiled(function: Function) -> Function:
    """Compile a function at its first call with arguments of given types.

    A division by zero gives inf or nan, as in numpy, and not an exception: the check would cost a branch a division.
    """
    made = numba.njit(cache=CACHE is not None, error_model="numpy")(function)
    FUNCTIONS.append(made)
    return cast(Function, made)


def is_filled() -> bool:
    """Whether the cache holds compiled code."""
    return CACHE is not None and any(CACHE.rglob("*.nbc"))


def _cache_folder() -> Path | None:
    """The folder of compiled code, made if need be; None where it cannot be written."""
    if "NUMBA_CACHE_DIR" in os.environ:
        return Path(os.environ["NUMBA_CACHE_DIR"])
    base = os.environ.get("SHOAL_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "shoal"
    )
    root = Path(base) / "compiled"
    folder = root / _digest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return None
    folder.touch()
    for old in sorted(root.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _digest() -> str:
    """Names the sources, and the compiler."""
    packages = Path(__file__).parents[1]
    total = hashlib.sha256(numba.__version__.encode())
    for package in ("state", "online_models", "streams/schemas", "streams/processing"):
        for source in sorted((packages / package).rglob("*.py")):
            total.update(source.read_bytes())
    return total.hexdigest()[:16]


CACHE = _cache_folder()
if CACHE is not None:
    numba.config.CACHE_DIR = str(CACHE)  # type: ignore[attr-defined]
