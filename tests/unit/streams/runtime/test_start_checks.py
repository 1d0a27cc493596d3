"""Where a task begins: what must be accepted before it does, and what is no loss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from state.stores.memory import MemoryStore
from streams.errors import LossError
from streams.processing import progress
from streams.processing.batch_step import Rule
from streams.processing.output_buffer import Topics
from streams.processing.partition_processor import Task
from streams.processing.progress import PROGRESS_KEY, Progress, Source
from streams.runtime.log_bounds import LogBounds
from streams.runtime.start_checks import check_start
from tests.support.decoding import decode

SEARCHED = "shoal-state-changelog/0 was read from 3 to 40"
CLICKS, BUYS = ("clickstream", 0), ("purchases", 0)
BOUNDS = LogBounds({"clickstream": "one", "purchases": "two"}, {CLICKS: 10, BUYS: 0}, {CLICKS: 90, BUYS: 50}, {}, 1)


def task(**sources: Source) -> Task:
    store = MemoryStore()
    if sources:
        store.rows[PROGRESS_KEY] = progress.dumps(Progress(sources=sources))
    return Task(Rule(sources=("clickstream", "purchases")), decode, store, Topics("c", "s", "a", "d", "t", "r"))


def begun(
    made: Task, bounds: LogBounds = BOUNDS, *, accept_loss: bool = False, had_rows: bool = False
) -> dict[str, int]:
    check_start(made, 0, bounds, accept_loss=accept_loss, had_rows=had_rows, searched=SEARCHED)
    assert {name: source.topic for name, source in made.progress.sources.items()} == bounds.topic_ids
    return made.queued_ends()


def test_a_fresh_one_begins_where_the_logs_do() -> None:
    assert begun(task()) == {"clickstream": 10, "purchases": 0}


def test_a_progress_goes_on_and_the_topics_are_noted() -> None:
    old = {"clickstream": Source(40, 5), "purchases": Source(50, 5)}  # of before the ids were noted
    assert begun(task(**old)) == {"clickstream": 40, "purchases": 50}


def test_a_source_that_was_added_begins_where_its_log_does() -> None:
    assert begun(task(purchases=Source(7, 1, "two"))) == {"clickstream": 10, "purchases": 7}


GONE = f"partition 0: the changelog holds no progress ({SEARCHED}), although"


@pytest.mark.parametrize(
    ("made", "bounds", "had_rows", "told", "then"),
    [
        (
            task(),
            replace(BOUNDS, committed={BUYS: 3}),
            False,
            f"{GONE} the group has committed offsets of purchases",
            {"clickstream": 10, "purchases": 0},
        ),
        (task(), BOUNDS, True, f"{GONE} the local disk has rows", {"clickstream": 10, "purchases": 0}),
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
def test_what_is_lost_is_refused_until_it_is_accepted(
    made: Task, bounds: LogBounds, had_rows: bool, told: str, then: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LossError) as caught:
        check_start(made, 0, bounds, accept_loss=False, had_rows=had_rows, searched=SEARCHED)
    assert str(caught.value).startswith(told)
    assert "; --accept-loss " in str(caught.value)
    assert begun(made, bounds, accept_loss=True, had_rows=had_rows) == then
    assert f"shoal: loss accepted: {told}" in capsys.readouterr().err
    flush = made.cut(0)  # though no record has come
    assert flush is not None
    store = MemoryStore()
    store.rows[PROGRESS_KEY] = flush.rows[PROGRESS_KEY] or b""  # once it is accepted it is not asked again
    again = Task(made.rule, decode, store, Topics("c", "s", "a", "d", "t", "r"))
    assert begun(again, bounds, had_rows=had_rows) == then


def test_no_loss_asks_for_no_progress() -> None:
    made = task(clickstream=Source(40, 5, "one"), purchases=Source(50, 5, "two"))
    begun(made)
    assert made.cut(0) is None


def test_accepted_rejects_are_accepted_once_for_all() -> None:
    store = MemoryStore()
    store.rows[PROGRESS_KEY] = progress.dumps(Progress(stopped="10 of 10 records in a row are rejects"))
    rule, topics = Rule(sources=("clickstream", "purchases")), Topics("c", "s", "a", "d", "t", "r")
    assert Task(rule, decode, store, topics).progress.stopped
    flush = Task(rule, decode, store, topics, accept_rejects=True).cut(0)
    assert flush is not None
    assert progress.loads(flush.rows[PROGRESS_KEY] or b"").stopped is None
