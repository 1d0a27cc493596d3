"""The log of training rows, read outside any group: a chunk of records at a time, in their order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition

from online_models.learner.control_messages import ControlMessage
from online_models.training_rows import TrainingRows
from state import features
from streams import training
from streams.errors import TopicsError
from streams.reading import reading, to_end
from streams.settings import Settings

CHUNK = 2_000  # records
WIDTH = 2 * features.R + len(features.PLAIN)


@dataclass(slots=True)
class Chunk:
    first: int  # where the log begins
    end: int  # where it ended when it was first looked at
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def pieces(self) -> Iterator[TrainingRows | tuple[int, ControlMessage | str]]:
        """Rows of this layout, and between them control messages (or what is wrong with one) with their offsets."""
        return training.pieces(self.keys, self.values, self.offsets, training.layout(features.NAMES), WIDTH)

    def rows(self) -> TrainingRows:
        """Those of the records that are rows of this layout."""
        return training.decode(self.keys, self.values, self.offsets, training.layout(features.NAMES), WIDTH)


async def read(settings: Settings) -> AsyncIterator[Chunk]:
    """All that was committed, at least one chunk (it may be empty). TopicsError where there is no topic."""
    topic = settings.topic("training_rows")
    async with reading(settings) as consumer:
        if topic not in await consumer.topics():
            raise TopicsError(f"missing: {topic}")
        at = TopicPartition(topic, 0)
        consumer.assign([at])
        starts = await consumer.beginning_offsets([at])
        first, end = starts[at], (await consumer.end_offsets([at]))[at]
        chunk = Chunk(first, end)
        async for record in to_end(consumer, starts):
            chunk.keys.append(record.key)
            chunk.values.append(record.value)
            chunk.offsets.append(record.offset)
            if len(chunk.offsets) == CHUNK:
                yield chunk
                chunk = Chunk(first, end)
        yield chunk
