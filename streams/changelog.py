"""Every user's row, rebuilt from the changelog topic: what `snapshot` and the demo's summary look at."""

from __future__ import annotations

from aiokafka.structs import TopicPartition

from streams import progress
from streams.models import reader
from streams.progress import PROGRESS_KEY, Progress
from streams.settings import Settings


async def read(settings: Settings) -> tuple[dict[bytes, bytes], dict[int, Progress]]:
    """Rows by user, and the progress of each partition, as committed up to the changelog's end."""
    consumer = reader(settings)
    await consumer.start()
    rows: dict[bytes, bytes] = {}
    found: dict[int, Progress] = {}
    try:
        tps = [TopicPartition(settings.changelog, number) for number in range(settings.topics.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        for tp in tps:
            while await consumer.position(tp) < ends[tp]:
                for records in (await consumer.getmany(tp, timeout_ms=200)).values():
                    for record in records:
                        if record.key == PROGRESS_KEY:
                            found[tp.partition] = progress.loads(record.value)
                        elif record.value is None:
                            rows.pop(record.key, None)
                        else:
                            rows[record.key] = record.value
    finally:
        await consumer.stop()
    return rows, found
