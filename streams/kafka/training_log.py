"""Reads the topic of training rows, outside any group: chunks of records in the order of the log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition

from online_models.learner.control_messages import ControlMessage
from online_models.training_rows import TrainingRows
from state import features
from streams.config.settings import Settings
from streams.errors import TopicsError
from streams.kafka.reader import reading, to_end
from streams.processing.outputs import training_records

CHUNK = 2_000  # records
WIDTH = 2 * features.R + len(features.PLAIN)  # columns of a raw feature matrix


@dataclass(slots=True)
class Chunk:
    """Consecutive records of the topic, one list entry per record."""

    first: int  # first offset of the log
    end: int  # end offset of the log when the reading began
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def pieces(self) -> Iterator[TrainingRows | tuple[int, ControlMessage | str]]:
        """Training rows and, between them, each control message (or why it is invalid) with its offset.

        Rows of another feature layout are left out.
        """
        layout = training_records.layout(features.NAMES)
        return training_records.pieces(self.keys, self.values, self.offsets, layout, WIDTH)

    def rows(self) -> TrainingRows:
        """The training rows of this feature layout; control messages are left out."""
        layout = training_records.layout(features.NAMES)
        return training_records.decode(self.keys, self.values, self.offsets, layout, WIDTH)


async def read(settings: Settings) -> AsyncIterator[Chunk]:
    """The committed records, up to the end that the log has at the start. The last chunk may be empty.

    TopicsError where the topic does not exist.
    """
    topic = settings.topic("training_rows")
    async with reading(settings) as consumer:
        if topic not in await consumer.topics():
            raise TopicsError(f"missing: {topic}")
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        starts, ends = await consumer.beginning_offsets([tp]), await consumer.end_offsets([tp])
        first, end = starts[tp], ends[tp]
        chunk = Chunk(first, end)
        async for record in to_end(consumer, starts):
            chunk.keys.append(record.key)
            chunk.values.append(record.value)
            chunk.offsets.append(record.offset)
            if len(chunk.offsets) == CHUNK:
                yield chunk
                chunk = Chunk(first, end)
        yield chunk
