"""What became of segments from one version to the next."""

from __future__ import annotations

import msgspec


class Lineage(msgspec.Struct, frozen=True):
    """One event in the life of a segment; shares are of panel members, -1 stands for people in no segment before."""

    event: str  # born, split, merged, retired; restored by a rollback
    segment: int  # born, split: the new one; merged, retired: the one that ends
    parents: list[tuple[int, float]] = []  # born, split: where its people were before, and the share of its people
    heirs: list[tuple[int, float]] = []  # merged, retired: where its people are now, and the share of its people
    people: int = 0  # panel members it is about
