"""A disk without room: a small file system of its own, where the system lets us have one."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path


def mount(at: Path, size: str) -> bool:
    """A file system in memory at a folder; False where that is not allowed."""
    if sys.platform != "linux":
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def unmount(at: Path) -> None:
    subprocess.run(["umount", str(at)], capture_output=True, check=True)


def fill(path: Path) -> None:
    """Take all the room that there is left."""
    with path.open("wb", buffering=0) as out:
        size = 1 << 20
        while size:
            try:
                out.write(bytes(size))
            except OSError:
                size //= 2


def small_files() -> None:
    """In a process that is to have no file of more than half a megabyte."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))
