"""A folder for what a command keeps on the disk while it runs: users' events and rows, so nothing of it may stay."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from streams.errors import DataError


@contextmanager
def scratch_folder(output: Path) -> Iterator[Path]:
    """An empty folder beside a file that is to be written, deleted at the end: there is room for both of them, while
    the system's temporary folder may lie in memory.

    It is deleted on SIGTERM and SIGHUP, too. What a command that was killed left for the same file is deleted first.
    DataError where it cannot be made, and for an OSError of files while it is there.
    """
    prefix = f".{output.name}.scratch-"
    folder = output.parent / f"{prefix}{os.getpid()}"
    try:
        for old in output.parent.glob(f"{prefix}*"):
            if not _is_running(old.name.removeprefix(prefix)):
                shutil.rmtree(old, ignore_errors=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise DataError(f"{output}: its folder cannot be written to: {error.strerror}") from error
    try:
        with _ended_by_signals():
            yield folder
    except (ConnectionError, TimeoutError):  # of the network: not this folder's, though they are OSErrors
        raise
    except OSError as error:
        raise DataError(f"{output} was not written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: str) -> bool:
    """Whether there is a process of that number."""
    try:
        with suppress(PermissionError):  # it is another user's
            os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    return True


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise SystemExit here, so that what follows is cleaned up."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
