"""Where a task starts reading, which losses must be accepted first, and what is no loss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from state.stores.memory import MemoryStore
from streams.errors import LossError
from streams.processing import progress
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import PROGRESS_KEY, Progress, Source
from streams.runtime.log_bounds import LogBounds
from streams.runtime.start_checks import check_start
from tests.support.decoding import decode

SEARCHED = "shoal-state-changelog/0 was read from 3 to 40"
CLICKS, BUYS = ("clickstream", 0), ("purchases", 0)
BOUNDS = LogBounds({"clickstream": "one", "purchases": "two"}, {CLICKS: 10, BUYS: 0}, {CLICKS: 90, BUYS: 50}, {}, 1)


def task(**sources: Source) -> PartitionProcessor:
    store = MemoryStore()
    if sources:
        store.rows[PROGRESS_KEY] = progress.dumps(Progress(sources=sources))
    return PartitionProcessor(
        PartitionConfig(sources=("clickstream", "purchases")), decode, store, Topics("c", "s", "a", "d", "t", "r")
    )


def start_offsets(
    new_task: PartitionProcessor, bounds: LogBounds = BOUNDS, *, accept_loss: bool = False, had_rows: bool = False
) -> dict[str, int]:
    check_start(new_task, 0, bounds, accept_loss=accept_loss, had_rows=had_rows, searched=SEARCHED)
    assert {name: source.topic for name, source in new_task.progress.sources.items()} == bounds.topic_ids
    return new_task.queued_ends()


def test_a_new_task_starts_at_the_starts_of_the_logs() -> None:
    assert start_offsets(task()) == {"clickstream": 10, "purchases": 0}


def test_a_task_resumes_from_its_progress_and_stores_the_topic_ids() -> None:
    old = {"clickstream": Source(40, 5), "purchases": Source(50, 5)}  # of a version that did not store topic ids
    assert start_offsets(task(**old)) == {"clickstream": 40, "purchases": 50}


def test_a_source_that_was_added_starts_at_the_start_of_its_log() -> None:
    assert start_offsets(task(purchases=Source(7, 1, "two"))) == {"clickstream": 10, "purchases": 7}


NO_PROGRESS = f"partition 0: the changelog holds no progress ({SEARCHED}), although"


@pytest.mark.parametrize(
    ("new_task", "bounds", "had_rows", "message", "offsets"),
    [
        (
            task(),
            replace(BOUNDS, committed={BUYS: 3}),
            False,
            f"{NO_PROGRESS} the group has committed offsets of purchases",
            {"clickstream": 10, "purchases": 0},
        ),
        (task(), BOUNDS, True, f"{NO_PROGRESS} the local disk has rows", {"clickstream": 10, "purchases": 0}),
        (
            task(clickstream=Source(40, 5, "former"), purchases=Source(7, 5, "two")),
            BOUNDS,
            False,
            "clickstream/0 is another topic of the same name, the progress is at 40 of the former one",
            {"clickstream": 10, "purchases": 7},
        ),
        (
            task(clickstream=Source(40, 5, "one"), purchases=Source(51, 5)),
            BOUNDS,
            False,
            "purchases/0 ends at 50, the progress is at 51",
            {"clickstream": 40, "purchases": 0},
        ),
        (
            task(clickstream=Source(40, 5, "one"), purchases=Source(51, 5, "two")),
            BOUNDS,
            False,
            "purchases/0 ends at 50, the progress is at 51",
            {"clickstream": 40, "purchases": 50},
        ),
        (
            task(clickstream=Source(9, 5, "one"), purchases=Source(50, 5)),
            BOUNDS,
            False,
            "clickstream/0 starts at 10, the progress is at 9",
            {"clickstream": 10, "purchases": 50},
        ),
        (
            task(clickstream=Source(0, -1, "one"), purchases=Source(50, 5)),
            BOUNDS,
            False,
            "clickstream/0 starts at 10, the progress is at 0",
            {"clickstream": 10, "purchases": 50},
        ),
    ],
    ids=[
        "progress gone",
        "progress gone, rows there",
        "recreated, grown past",
        "ends below",
        "lost its end",
        "expired",
        "never read",
    ],
)
def test_a_loss_is_refused_until_it_is_accepted(
    new_task: PartitionProcessor,
    bounds: LogBounds,
    had_rows: bool,
    message: str,
    offsets: dict[str, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(LossError) as caught:
        check_start(new_task, 0, bounds, accept_loss=False, had_rows=had_rows, searched=SEARCHED)
    assert str(caught.value).startswith(message)
    assert "; --accept-loss " in str(caught.value)
    assert start_offsets(new_task, bounds, accept_loss=True, had_rows=had_rows) == offsets
    assert f"shoal: loss accepted: {message}" in capsys.readouterr().err
    flush = new_task.cut(0)  # although no record was applied
    assert flush is not None
    store = MemoryStore()
    store.rows[PROGRESS_KEY] = flush.rows[PROGRESS_KEY] or b""  # an accepted loss is not reported again
    restarted = PartitionProcessor(new_task.config, decode, store, Topics("c", "s", "a", "d", "t", "r"))
    assert start_offsets(restarted, bounds, had_rows=had_rows) == offsets


def test_without_a_loss_no_progress_is_written() -> None:
    new_task = task(clickstream=Source(40, 5, "one"), purchases=Source(50, 5, "two"))
    start_offsets(new_task)
    assert new_task.cut(0) is None


def test_accepted_rejects_are_accepted_once_for_all() -> None:
    store = MemoryStore()
    store.rows[PROGRESS_KEY] = progress.dumps(Progress(stopped="10 of 10 records in a row are rejects"))
    rule, topics = PartitionConfig(sources=("clickstream", "purchases")), Topics("c", "s", "a", "d", "t", "r")
    assert PartitionProcessor(rule, decode, store, topics).progress.stopped
    flush = PartitionProcessor(rule, decode, store, topics, accept_rejects=True).cut(0)
    assert flush is not None
    assert progress.loads(flush.rows[PROGRESS_KEY] or b"").stopped is None
