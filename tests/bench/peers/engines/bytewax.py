"""Bytewax: a stateful flat map, with recovery."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.bench.peers import job
from tests.bench.peers.engine import PythonEngine, Run

ENGINE = PythonEngine(
    name="Bytewax",
    version="bytewax 0.21.1",
    guarantee="at least once",
    commit=10.0,
    note="stateful_flat_map; snapshots each epoch into SQLite on the local disk; one process",
    state_in_kafka=False,
    settle=22.0,
    module="tests.bench.peers.engines.bytewax",
    lock="bytewax",
)


def main(run: Run) -> None:
    import bytewax.operators as op
    import orjson
    from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
    from bytewax.dataflow import Dataflow
    from bytewax.recovery import RecoveryConfig, init_db_dir
    from bytewax.run import cli_main

    def decode(message: Any) -> tuple[str, tuple[int, int]]:
        return message.key.decode(), job.time_and_spend(orjson.loads(message.value))

    def fold(row: job.State | None, event: tuple[str, int, int]) -> tuple[job.State, list[dict[str, Any]]]:
        row = row or job.new_state()
        change = job.apply(row, *event)
        return row, [change] if change else []

    def encode(change: tuple[str, dict[str, Any]]) -> Any:
        return KafkaSinkMessage(key=change[0].encode(), value=orjson.dumps(change[1]))

    flow = Dataflow("peers")
    messages = op.input("clicks", flow, KafkaSource([run.bootstrap], [run.events]))
    events = op.map("decode", messages, decode)
    # a mapper is not told the key
    named = op.map("name", events, lambda event: (event[0], (event[0], *event[1])))
    changes = op.stateful_flat_map("fold", named, fold)
    op.output("changes", op.map("encode", changes, encode), KafkaSink([run.bootstrap], run.changes))

    folder = Path(run.folder) / "recovery"
    if not folder.exists():
        folder.mkdir(parents=True)
        init_db_dir(folder, 1)
    cli_main(
        flow,
        workers_per_process=run.threads,
        epoch_interval=timedelta(seconds=run.commit),
        recovery_config=RecoveryConfig(folder),
    )


if __name__ == "__main__":
    main(Run.from_environ())
