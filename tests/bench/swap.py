"""`python -m tests.bench.swap`: how long a new model version holds up a worker's one thread.

Three things do: reading the version, swapping to it at a flush, and the turns of the pass that judges everyone again.
Between two turns batches and flushes go on. One partition with RocksDB; all rows in the cache.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table

from online_models.learner.learner import Learner
from online_models.version import dumps, loads
from state import features
from state.stores.rocksdb import Meta, RowStore
from streams.config.factories import partition_config, schema_of
from streams.config.settings import load
from streams.kafka.model_store import without_learner_state
from streams.processing.outputs import training_records
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_processor import PartitionProcessor
from streams.runtime import heap
from streams.runtime.worker import USERS_PER_TURN
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import decoder
from streams.services.learner import params
from tests.bench import traffic
from tests.bench.measure import fresh, progress, table_console, write

FETCH = 8_000  # records
SWAPS = 5
WHAT = ("read", "flush without a swap", "flush with a swap", "turn of the pass")


@click.command()
@click.option("--users", type=click.IntRange(min=1_000), default=200_000, show_default=True)
@click.option("--home", type=click.Path(path_type=Path), default=Path(".shoal/bench-swap"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(users: int, home: Path, out: Path | None) -> None:
    """Milliseconds that a swap takes of the worker's thread."""
    fresh(home)
    # a version a fetch, nearly
    chosen = {"topics.partitions": 1, "state.cache_rows": max(1_000, users), "learner.every_rows": 250}
    settings = load(environ={}, **chosen)
    schema = schema_of(settings.sources[0], settings)
    store = RowStore(home / "0", Meta(settings.application, 0, 1), cache_rows=users)
    list(store.build_index())
    topics = Topics("segment-changes", "segments", "alerts", "dead-letters", "training-rows", "commands-results")
    task = PartitionProcessor(
        partition_config(settings, 0),
        decoder([schema] * len(settings.sources), use_clock=False),
        store,
        topics,
    )
    learner, columns = Learner.start(params(settings)), training_records.layout(features.NAMES)
    source, width, taught = settings.source_topics[0], 2 * features.R + len(features.PLAIN), 0
    took: dict[str, list[float]] = {what: [] for what in WHAT}

    def timed(what: str | None, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        found = work()
        if what:
            took[what].append((time.perf_counter() - started) * 1000)
        return found

    def flush(what: str | None) -> None:
        nonlocal taught
        cut = timed(what, lambda: task.cut(int(time.time() * 1000)))
        if cut is None:
            return
        store.write_flush(cut.rows, 0, cut.index, cut.swept)
        sent = cut.outputs.get((topics.training, 0), [])
        if sent:
            keys, values = [key for key, _, _ in sent], [value for _, value, _ in sent]
            rows = training_records.decode(keys, values, range(taught, taught + len(sent)), columns, width)
            taught += len(sent)
            fresh_versions.extend(learner.learn(rows))

    fresh_versions: list[Any] = []
    heap.tune_collector()  # as a worker does
    made = traffic.make("scattered", 3 * users, users, end=int(time.time() * 1000), hours=12.0)
    with progress() as bar:
        at = bar.add_task("events", total=len(made))
        for first in range(0, len(made), FETCH):
            records = traffic.encode(made, first, min(first + FETCH, len(made)))
            n = len(records.keys)
            offsets = list(range(first, first + n))
            ends = dict.fromkeys(settings.source_topics, 0) | {source: first + n}
            task.add(RecordBatch(source, 0, first, first + n - 1, offsets, records.keys, records.values, records.times))
            task.run(int(time.time() * 1000), ends)
            last = first + n >= len(made) - SWAPS * FETCH
            if last and fresh_versions:
                data = dumps(fresh_versions[-1])
                fresh_versions.clear()
                task.adopt(timed("read", lambda data=data: without_learner_state(loads(data))))
                flush("flush with a swap")
                while timed("turn of the pass", lambda: task.continue_pass(USERS_PER_TURN)):
                    pass
                flush(None)
            else:
                flush("flush without a swap")
            while task.sweep(USERS_PER_TURN):
                pass
            bar.update(at, completed=first + n)
    store.close()
    table = Table("", "times", "median", "95%", "longest", title=f"{users:,} users; milliseconds")
    figures = {}
    for what, each in took.items():
        if each:
            median, high = np.percentile(each, [50, 95])
            figures[what] = {"times": len(each), "median": median, "p95": high, "longest": max(each)}
            table.add_row(what, f"{len(each):,}", f"{median:.2f}", f"{high:.2f}", f"{max(each):.2f}")
    table_console().print(table)
    write(out, {"users": users, "milliseconds": figures})
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
