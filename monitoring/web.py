"""The worker's status page: health, metrics, status, single users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web


def build(
    status: Callable[[], dict[str, Any]],
    metrics: Callable[[], tuple[bytes, str]],
    waiting: Callable[[], str | None],
    user: Callable[[str], dict[str, Any] | None],
) -> web.Application:
    """A web application with /livez, /readyz, /status, /metrics and /users/{id}.

    status: JSON types for /status. metrics: body and content type of /metrics. waiting: why the worker is not ready,
    None when it is. user: JSON types for a user id, None where this worker does not have the user.
    """

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = waiting()
        return web.Response(text="ok\n") if reason is None else web.Response(text=f"{reason}\n", status=503)

    async def show_status(_: web.Request) -> web.Response:
        return web.json_response(status())

    async def show_metrics(_: web.Request) -> web.Response:
        body, content_type = metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def show_user(request: web.Request) -> web.Response:
        description = user(request.match_info["id"])
        if description is None:
            return web.json_response({"error": "this worker holds no such user"}, status=404)
        return web.json_response(description)

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/status", show_status)
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/users/{id}", show_user)
    return app
