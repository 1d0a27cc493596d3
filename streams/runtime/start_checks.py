"""Where a task starts reading its sources, and which losses must be accepted before it starts."""

from __future__ import annotations

from streams.processing.partition_processor import PartitionProcessor
from streams.runtime.data_loss import refuse_loss
from streams.runtime.log_bounds import LogBounds


def check_start(
    task: PartitionProcessor, number: int, bounds: LogBounds, *, accept_loss: bool, had_rows: bool, searched: str
) -> None:
    """Move each source to the start of its log where necessary, and store the topics' ids in the progress.

    number: of the partition. had_rows: the local disk holds rows. searched: which part of the changelog the rows were
    recovered from, for the message.
    LossError where the progress is gone although there was one; where a source is another topic of the same name,
    starts above the progress, or ends below it.
    """
    topics = list(task.positions())  # the sources, and the commands
    _check_progress_exists(task, number, topics, bounds, accept_loss=accept_loss, had_rows=had_rows, searched=searched)
    for topic in topics:
        _check_source(task, number, topic, bounds, accept_loss=accept_loss)


def _check_progress_exists(
    task: PartitionProcessor,
    number: int,
    topics: list[str],
    bounds: LogBounds,
    *,
    accept_loss: bool,
    had_rows: bool,
    searched: str,
) -> None:
    """A partition that was processed before must have a progress: otherwise all records would count twice."""
    committed = [topic for topic in topics if (topic, number) in bounds.committed]
    if not task.fresh or not (committed or had_rows):
        return
    evidence = f"the group has committed offsets of {', '.join(committed)}" if committed else "the local disk has rows"
    refuse_loss(
        accept_loss,
        f"partition {number}: the changelog holds no progress ({searched}), although {evidence}",
        "begins anew: what the sources still hold counts once more",
    )
    task.mark_changed()


def _check_source(task: PartitionProcessor, number: int, topic: str, bounds: LogBounds, *, accept_loss: bool) -> None:
    source, name = task.progress.sources[topic], f"{topic}/{number}"
    start, end = bounds.starts[topic, number], bounds.ends[topic, number]
    was_read = bool(source.topic or source.offset or source.key >= 0)
    loss, target = "", start
    if source.topic and source.topic != bounds.topic_ids[topic]:
        loss = f"{name} is another topic of the same name, the progress is at {source.offset} of the former one"
    elif source.offset > end:
        # Of the same topic all records were applied. Of a topic that may be another one none was.
        target = end if source.topic else start
        loss = f"{name} ends at {end}, the progress is at {source.offset}: it is another topic, or lost its end"
    elif source.offset < start and was_read:
        loss = f"{name} starts at {start}, the progress is at {source.offset}: records between are gone"
    if loss:
        refuse_loss(accept_loss, loss, f"reads it from {target} on")
        task.mark_changed()
    if loss or source.offset < start:
        task.skip_to(topic, target)
    source.topic = bounds.topic_ids[topic]
