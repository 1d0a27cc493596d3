"""A store's folder on the disk: deleted, set aside, or marked as broken. Nothing here knows what the folder holds."""

from __future__ import annotations

import shutil
from pathlib import Path

KEPT_ASIDE = 2  # broken stores of a partition that are kept for inspection


def remove(path: Path) -> None:
    """Delete a store's folder, and its mark."""
    shutil.rmtree(path, ignore_errors=True)
    _mark(path).unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename the folder of a broken store, so that a new one can be created. Returns the new path.

    Only the newest KEPT_ASIDE folders of a partition are kept.
    """
    aside = sorted(path.parent.glob(f"{path.name}.aside-*"), key=_aside_number)
    number = _aside_number(aside[-1]) + 1 if aside else 1
    for folder in aside[: len(aside) + 1 - KEPT_ASIDE]:
        shutil.rmtree(folder, ignore_errors=True)
    new_path = path.with_name(f"{path.name}.aside-{number}")
    path.rename(new_path)
    _mark(path).unlink(missing_ok=True)
    return new_path


def mark_broken(path: Path, reason: str) -> None:
    """Write the reason to a file beside the folder, for the next open."""
    _mark(path).write_text(reason, encoding="utf-8")


def broken_reason(path: Path) -> str | None:
    """Why the store was marked as broken; None where it was not."""
    return _mark(path).read_text(encoding="utf-8") if _mark(path).exists() else None


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.broken")


def _aside_number(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])
