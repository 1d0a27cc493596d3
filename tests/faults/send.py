"""Sends the stream at a rate, each record once, whatever the broker does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from streams.config.settings import Settings
from streams.kafka.client_options import aiokafka_options
from tests.support.events.squeezed_month import TRUTH, Sent


class Sender:
    """A thread; `sent` counts what the broker has taken."""

    def __init__(self, settings: Settings, records: Sequence[Sent], rate: float | None) -> None:
        self._settings, self._records, self._rate = settings, records, rate
        self.sent = 0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._thread.start()

    def _go(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # told by done()
            self.error = error

    async def _run(self) -> None:
        producer = AIOKafkaProducer(
            **aiokafka_options(self._settings),
            enable_idempotence=True,
            acks="all",
            linger_ms=5,
            compression_type="gzip",
            request_timeout_ms=180_000,
            max_request_size=4 << 20,
        )
        await producer.start()
        try:
            topics, begun = self._settings.source_topics, time.monotonic()
            size = 5_000 if self._rate is None else max(1, int(self._rate / 20))
            for start in range(0, len(self._records), size):
                if self._rate is not None:
                    await asyncio.sleep(max(0.0, begun + start / self._rate - time.monotonic()))
                waiting = [
                    await producer.send(
                        topics[one.source],
                        key=one.key,
                        value=one.value,
                        timestamp_ms=one.stamp,
                        headers=[(TRUTH, one.reason.encode())] if one.reason else None,
                    )
                    for one in self._records[start : start + size]
                ]
                await asyncio.gather(*waiting)
                self.sent += len(waiting)
        finally:
            await producer.stop()

    def done(self) -> bool:
        """Whether all is sent; raises what went wrong."""
        if self.error is not None:
            raise self.error
        return not self._thread.is_alive()
