"""Settings [rejects]: when many rejects stop a worker."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streams.config.sections.section import Section


class Rejects(Section):
    """When many rejects stop a worker, because the schema is probably wrong."""

    window: Annotated[int, Field(ge=100)] = 10_000
    """Records in a row over which the share of rejects is taken."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of rejects above which the worker stops (exit code 8)."""
    max_bytes: Annotated[int, Field(ge=64, le=16 << 20)] = 65_536
    """Bytes of a value above which a record is rejected."""
