"""A model version made once more from the log of training rows, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from online_models.learner.control_messages import ControlMessage
from online_models.learner.learner import Learner
from online_models.training_rows import TrainingRows
from online_models.version import Version, dumps
from streams.config.settings import Settings
from streams.errors import DataError
from streams.kafka import training_log
from streams.kafka.model_store import published, stateless
from streams.kafka.training_log import Chunk
from streams.services.learner import params


async def rebuild(
    settings: Settings, number: int, progress: Callable[[int, int], None] = lambda done, size: None
) -> tuple[Version, bool]:
    """The version, with the learner's state, and whether its bytes are those that were published.

    A learner begins with the first row there ever was, so the log has to reach back to it. DataError where it does not,
    or ends before the version is due, or where no such version was published.
    """
    there = await published(settings, number)
    learner = Learner.start(params(settings))
    async for chunk in training_log.read(settings):
        if chunk.first:
            raise DataError(
                f"{settings.topic('training_rows')} begins at offset {chunk.first}: the rows that version {number} was "
                "learned from are gone"
            )
        for version in _learned(learner, chunk):
            if version.number == number:
                return version, set(there) <= {dumps(version), dumps(stateless(version))}  # what is left of it fits
        progress(max(chunk.offsets, default=0), chunk.end)
    raise DataError(f"the log ends before version {number} is due: learned with other settings of [learner]?")


def _learned(learner: Learner, chunk: Chunk) -> Iterator[Version]:
    """The versions that a chunk leads to, control messages among its rows carried out."""
    for piece in chunk.pieces():
        if isinstance(piece, TrainingRows):
            yield from learner.learn(piece)
        elif isinstance(piece[1], ControlMessage):
            version, _ = learner.apply_control(piece[1], piece[0])
            if version is not None:
                yield version
