"""Settings [state]: local state, flushes and recovery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from streams.config.sections.section import Seconds, Section


class State(Section):
    """Local state, flushes and recovery."""

    datadir: Path = Path(".shoal/state")
    """Folder of the local state."""
    cache_rows: Annotated[int, Field(ge=1000, le=10**9)] = 2_000_000
    """User rows in memory, over all partitions of a worker."""
    block_cache_mb: Annotated[int, Field(ge=1, le=1 << 20)] = 64
    """RocksDB's block cache in MiB, shared by all partitions of a worker."""
    flush_interval: Annotated[float, Field(gt=0, le=60)] = 0.25
    """Seconds between two flushes; at most `state.transaction_timeout`."""
    session_timeout: Seconds = 10.0
    """Seconds without a heartbeat after which a group member counts as dead."""
    rebalance_timeout: Seconds = 30.0
    """Seconds that a member of the workers' group has to rejoin in a rebalance."""
    transaction_timeout: Seconds = 20.0
    """Seconds after which a transaction that is not committed is aborted."""
    max_poll_records: Annotated[int, Field(ge=1, le=200_000)] = 8_000
    """Records of one poll, about."""
    recovery_deadline: Seconds = 600.0
    """Seconds after which a recovery that has not ended stops the worker (exit code 9)."""
    journal: bool = False
    """Whether progress records hold a journal of what was applied, as `make faults` needs. It names erased users."""

    @model_validator(mode="after")
    def _check_flush_interval(self) -> State:
        if self.flush_interval > self.transaction_timeout:
            raise ValueError("state.flush_interval must be at most state.transaction_timeout")
        return self
