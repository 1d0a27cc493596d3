"""The page's health answers."""

from __future__ import annotations

import asyncio

from aiohttp.test_utils import TestClient, TestServer

from monitoring.web import build


async def test_alive_always_and_ready_with_the_reason() -> None:
    reason: list[str | None] = ["recovering: t/0 at 5 of 9"]
    app = build(dict, lambda: (b"", "text/plain"), lambda: reason[0], lambda ident: None)
    async with TestClient(TestServer(app)) as client, asyncio.timeout(30):
        assert (await client.get("/livez")).status == 200
        answer = await client.get("/readyz")
        assert (answer.status, await answer.text()) == (503, "recovering: t/0 at 5 of 9\n")
        reason[0] = None
        assert (await client.get("/readyz")).status == 200
