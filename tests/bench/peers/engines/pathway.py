"""Pathway: a custom stateful reducer, with persistence of the input, which a start replays. Persistence of the state of
its operators wants a licence key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.peers import job
from tests.bench.peers.engine import PythonEngine, Run

BACKLOG = 50_000  # records read and not done with: its documentation asks for a bound where a backlog is replayed
SNAPSHOT = 5.0  # seconds between two

ENGINE = PythonEngine(
    name="Pathway",
    version="pathway 0.33.0",
    guarantee="at least once",
    commit=1.5,
    note=f"stateful_many; the input is kept on the local disk each {SNAPSHOT:.0f} s and replayed at a start (state of "
    "operators is kept with a licence key only)",
    state_in_kafka=False,
    settle=12.0,
    module="tests.bench.peers.engines.pathway",
    lock="pathway",
)


def fold(state: Any, rows: list[Any]) -> Any:
    """A user's state after a minibatch, and what the minibatch gave. Its rows come in no order: they are sorted by
    offset."""
    clock, spend_class, panes, count, _ = state or (0, 0, (), 0, ())
    row, found = [clock, spend_class, [list(pane) for pane in panes]], []
    for (_, user, time, kind, price, quantity), _ in sorted(rows, key=lambda row: row[0][0]):
        event = {"event_time": time, "event_type": kind, "price": price, "quantity": quantity}
        if change := job.apply(row, user, *job.time_and_spend(event)):
            found.append((count, user, change))
            count += 1
    return row[0], row[1], tuple(map(tuple, row[2])), count, _encoded(found)


def _encoded(found: list[tuple[int, str, dict[str, Any]]]) -> tuple[Any, ...]:
    import orjson

    return tuple((number, user, orjson.dumps(change).decode()) for number, user, change in found)


def main(run: Run) -> None:
    import pathway as pw

    class Click(pw.Schema):
        user_id: str
        event_time: str
        event_type: str
        price: float = pw.column_definition(default_value=0.0)
        quantity: int = pw.column_definition(default_value=1)

    kafka = {"bootstrap.servers": run.bootstrap, "group.id": run.name, "auto.offset.reset": "earliest"}
    clicks = pw.io.kafka.read(
        kafka,
        run.events,
        schema=Click,
        format="json",
        with_metadata=True,
        autocommit_duration_ms=int(run.commit * 1000),
        max_backlog_size=BACKLOG,
        name="clicks",
    )
    events = clicks.select(
        *(pw.this.user_id, pw.this.event_time, pw.this.event_type, pw.this.price, pw.this.quantity),
        offset=pw.this._metadata["offset"].as_int(),
    )
    reducer = pw.reducers.stateful_many(fold)
    users = events.groupby(pw.this.user_id).reduce(
        state=reducer(
            *(pw.this.offset, pw.this.user_id, pw.this.event_time),
            *(pw.this.event_type, pw.this.price, pw.this.quantity),
        )
    )
    batches = users.select(
        found=pw.apply_with_type(lambda state: state[4], tuple[tuple[int, str, str], ...], pw.this.state)
    )
    changes = batches.to_stream().filter(pw.this.is_upsert).flatten(pw.this.found)
    records = changes.select(number=pw.this.found[0], user=pw.this.found[1], change=pw.this.found[2])
    pw.io.kafka.write(
        records,
        kafka,
        run.changes,
        format="plaintext",
        key=records.user,
        value=records.change,
        headers=[records.number],  # what is sorted by has to be in the message
        sort_by=[records.number],
        name="changes",
    )
    pw.run(
        monitoring_level=pw.MonitoringLevel.NONE,
        persistence_config=pw.persistence.Config(
            pw.persistence.Backend.filesystem(Path(run.folder) / "persisted"),
            snapshot_interval_ms=int(SNAPSHOT * 1000),
        ),
    )


if __name__ == "__main__":
    main(Run.from_environ())
