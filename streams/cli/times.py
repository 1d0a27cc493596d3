"""The type of points in time on the command line."""

from __future__ import annotations

import click

from streams.schemas.timestamps import BAD, to_ms


class AsOf(click.ParamType):
    """RFC 3339 or epoch milliseconds, to milliseconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = str(value)
        (time,) = to_ms([int(text) if text.isdigit() else text]).tolist()
        if time == BAD:
            self.fail(f"{text!r} is neither RFC 3339 nor epoch milliseconds", param, ctx)
        return int(time)


AS_OF = AsOf()
