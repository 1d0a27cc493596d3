"""Where a task's sources are read from when it begins, and what must be accepted before it does."""

from __future__ import annotations

from streams.processing.partition_processor import PartitionProcessor
from streams.runtime.data_loss import refuse
from streams.runtime.log_ends import Standing


def check_start(
    task: PartitionProcessor, number: int, standing: Standing, *, accept_loss: bool, had_rows: bool, searched: str
) -> None:
    """Move each source to where its log begins where that is due, and note the topics' ids in the progress.

    searched: which part of the changelog the rows were recovered from. LossError where the progress is gone although
    there was one (had_rows: the local disk holds rows), where a source is another topic of the same name, starts above
    the progress, or ends below it.
    """
    topics = list(task.positions())  # the sources, and the commands
    committed = [topic for topic in topics if (topic, number) in standing.committed]
    if task.fresh and (committed or had_rows):
        sign = f"the group has committed offsets of {', '.join(committed)}" if committed else "the local disk has rows"
        refuse(
            accept_loss,
            f"partition {number}: the changelog holds no progress ({searched}), although {sign}",
            "begins anew: what the sources still hold counts once more",
        )
        task.mark_changed()
    for topic in topics:
        source, at = task.progress.sources[topic], f"{topic}/{number}"
        start, end = standing.starts[topic, number], standing.ends[topic, number]
        known = bool(source.topic or source.offset or source.key >= 0)
        wrong, to = "", start
        if source.topic and source.topic != standing.ids[topic]:
            wrong = f"{at} is another topic of the same name, the progress stands at {source.offset} of a former one"
        elif source.offset > end:
            to = end if source.topic else start  # of the same topic what there is was applied
            wrong = f"{at} ends at {end}, the progress stands at {source.offset}: it is another topic, or lost its end"
        elif source.offset < start and known:
            wrong = f"{at} starts at {start}, the progress stands at {source.offset}: records between are gone"
        if wrong:
            refuse(accept_loss, wrong, f"reads it from {to} on")
            task.mark_changed()
        if wrong or source.offset < start:
            task.skip_to(topic, to)
        source.topic = standing.ids[topic]
