"""Learns a model version again from the topic of training rows, and compares the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from online_models.learner.control_messages import ControlMessage
from online_models.learner.learner import Learner
from online_models.training_rows import TrainingRows
from online_models.version import Version, dumps
from streams.config.settings import Settings
from streams.errors import DataError
from streams.kafka import training_log
from streams.kafka.model_store import read_copies, without_learner_state
from streams.kafka.training_log import Chunk
from streams.services.learner import params


async def rebuild(
    settings: Settings, number: int, progress: Callable[[int, int], None] = lambda offset, end: None
) -> tuple[Version, bool]:
    """Learn version `number` again. Returns it with the learner's state, and whether its bytes are the published ones.

    progress is called with the offset that was learned and the end of the log.

    The learner starts from the first training row that there ever was, so the log must still begin there. DataError
    where it does not, where the log ends before the version is due, or where no such version was published.
    """
    published = await read_copies(settings, number)
    learner = Learner.start(params(settings))
    async for chunk in training_log.read(settings):
        if chunk.first:
            raise DataError(
                f"{settings.topic('training_rows')} begins at offset {chunk.first}: the rows that version {number} was "
                "learned from are deleted"
            )
        for version in _learn(learner, chunk):
            if version.number == number:
                rebuilt = {dumps(version), dumps(without_learner_state(version))}
                return version, set(published) <= rebuilt  # compaction may have removed one of the two copies
        progress(max(chunk.offsets, default=0), chunk.end)
    raise DataError(f"the log ends before version {number} is due: learned with other settings of [learner]?")


def _learn(learner: Learner, chunk: Chunk) -> Iterator[Version]:
    """Learn a chunk and apply its control messages, in the order of the log; yields the versions that result."""
    for piece in chunk.pieces():
        if isinstance(piece, TrainingRows):
            yield from learner.learn(piece)
            continue
        offset, message = piece
        if isinstance(message, ControlMessage):
            version, _ = learner.apply_control(message, offset)
            if version is not None:
                yield version
