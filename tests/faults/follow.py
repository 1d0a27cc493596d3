"""The partitions' progress as it is committed, followed from a thread of its own, whatever the broker does."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from aiokafka.structs import TopicPartition

from streams.config.settings import Settings
from streams.kafka.reader import reader
from streams.processing import progress
from streams.processing.progress import PROGRESS_KEY, Progress


class Follower:
    """standing: the newest progress of each partition; an undecodable one is passed over."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.standing: dict[int, Progress] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    async def _run(self) -> None:
        tps = [TopicPartition(self._settings.changelog, n) for n in range(self._settings.topics.partitions)]
        places = dict.fromkeys(tps, 0)
        while not self._end.is_set():
            consumer = reader(self._settings)
            try:
                await consumer.start()
                consumer.assign(tps)
                for tp, offset in places.items():
                    consumer.seek(tp, offset)
                while not self._end.is_set():
                    for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                        for record in records:
                            if record.key == PROGRESS_KEY:
                                with suppress(Exception):
                                    self.standing[tp.partition] = progress.loads(record.value)
                        places[tp] = records[-1].offset + 1
            except Exception:
                await asyncio.sleep(0.5)  # the broker is away
            finally:
                with suppress(Exception):
                    await consumer.stop()

    def applied(self) -> int:
        """Records of the sources that are applied and committed (nothing but records lies in these topics)."""
        topics = self._settings.source_topics
        return sum(one.sources[topic].offset for one in dict(self.standing).values() for topic in topics)

    def close(self) -> None:
        self._end.set()
        self._thread.join(10)
