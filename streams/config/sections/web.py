"""Settings [web]: the worker's status page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streams.config.sections.section import Section


class Web(Section):
    """The worker's status page: metrics, health, status."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address that the status page listens on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 6066
    """Port of the status page; 0 takes any free one."""
