"""Damage to RocksDB's files."""

from pathlib import Path


def biggest(path: Path) -> Path:
    """The largest table of a store."""
    return max(path.glob("*.sst"), key=lambda file: file.stat().st_size)


def flip(file: Path, at: int) -> None:
    """One byte of a file is another."""
    data = bytearray(file.read_bytes())
    data[at] ^= 0xFF
    file.write_bytes(data)
