"""Stock Faust: an agent, an event at a time, over a Table."""

from __future__ import annotations

from typing import Any

from tests.bench.peers import job
from tests.bench.peers.engine import PythonEngine, Run

ENGINE = PythonEngine(
    name="stock Faust",
    version="faust-streaming 0.15.3",
    guarantee="at least once",
    commit=2.8,
    note="agent over a Table (rocksdict) with changelog; one process, one thread",
    state_in_kafka=True,
    settle=6.0,
    module="tests.bench.peers.engines.stock_faust",
    lock="faust",
    # at -l info Faust spares itself the spinner, which makes a record of every debug line (measured: a tenth)
    arguments=("worker", "-l", "info", "--without-web"),
)


def build(run: Run) -> Any:
    import faust

    app = faust.App(
        run.name,
        broker=f"kafka://{run.bootstrap}",
        store="rocksdb://",
        datadir=run.folder,
        topic_partitions=run.partitions,
        topic_replication_factor=1,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=run.commit,
    )
    clicks = app.topic(run.events, key_type=str, key_serializer="raw", value_serializer="json")
    changes = app.topic(run.changes, key_serializer="raw", value_serializer="json")
    users = app.Table(
        "users", default=job.new_state, key_type=str, partitions=run.partitions, options={"driver": "rocksdict"}
    )

    @app.agent(clicks)
    async def fold(stream: Any) -> None:
        async for user, event in stream.items():
            row = users[user]
            change = job.apply(row, user, *job.time_and_spend(event))
            users[user] = row
            if change is not None:
                await changes.send(key=user.encode(), value=change)

    return app


if __name__ == "__main__":
    build(Run.from_environ()).main()
