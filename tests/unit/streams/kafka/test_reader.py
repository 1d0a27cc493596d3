"""A consumer that is stopped loses no cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams.config.settings import load
from streams.kafka.reader import started


class Client:
    """Like aiokafka's: it suppresses a cancellation while it stops."""

    stopped = False

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            return  # cut in half
        self.stopped = True


async def test_a_cancellation_during_the_stop_reaches_the_caller_and_the_stop_ends() -> None:
    client: Any = Client()
    stopping = asyncio.Event()

    async def use() -> None:
        async with started(client, load(environ={})):
            stopping.set()

    user = asyncio.ensure_future(use())
    await stopping.wait()
    await asyncio.sleep(0.01)
    user.cancel()
    with pytest.raises(asyncio.CancelledError):
        await user
    async with asyncio.timeout(20):
        while not client.stopped:
            await asyncio.sleep(0.01)
