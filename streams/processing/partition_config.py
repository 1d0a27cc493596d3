"""What a partition's decisions depend on beside rows, events and model version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from state import windows
from state.layout import Ints
from streams.processing.alerts.registry import default_rules
from streams.processing.alerts.rule import AlertRule


@dataclass(frozen=True, slots=True)
class PartitionConfig:
    """The settings of one partition."""

    lateness: int = 300_000  # ms
    timezone: str = "UTC"
    alerts: tuple[AlertRule, ...] = field(default_factory=default_rules)
    training_key: bytes = b"shoal"
    training_hourly: int = 5_000  # rows an hour of event time and partition
    sources: tuple[str, ...] = ("clickstream", "purchases")  # topic names, for evidence
    partition: int = 0
    placed: Callable[[list[bytes]], Ints] | None = None  # partitions of keys; None: not checked
    forget: int = 400 * windows.DAY  # units without an event after which a user is forgotten
