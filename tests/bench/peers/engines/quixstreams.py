"""Quix Streams: a stateful apply."""

from __future__ import annotations

from typing import Any

from tests.bench.peers import job
from tests.bench.peers.engine import PythonEngine, Run

ENGINE = PythonEngine(
    name="Quix Streams",
    version="quixstreams 3.28.1",
    guarantee="exactly once",
    commit=5.0,
    note="stateful apply; RocksDB and changelog; one process, one thread",
    state_in_kafka=True,
    settle=8.0,
    module="tests.bench.peers.engines.quixstreams",
    lock="quixstreams",
)


def main(run: Run) -> None:
    from quixstreams import Application

    app = Application(
        broker_address=run.bootstrap,
        consumer_group=run.name,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=run.commit,
        state_dir=run.folder,
    )
    clicks = app.topic(run.events, key_deserializer="str", value_deserializer="json")
    changes = app.topic(run.changes, key_serializer="str", value_serializer="json")

    def fold(event: dict[str, Any], user: str, timestamp: int, headers: Any, state: Any) -> dict[str, Any] | None:
        row = state.get("row") or job.new_state()
        change = job.apply(row, user, *job.time_and_spend(event))
        state.set("row", row)
        return change

    found = app.dataframe(clicks).apply(fold, stateful=True, metadata=True)
    found.filter(lambda change: change is not None).to_topic(changes)
    app.run()


if __name__ == "__main__":
    main(Run.from_environ())
