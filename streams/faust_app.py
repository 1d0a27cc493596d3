"""Faust around a worker: group membership, recovery, the agent that hands over fetches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust

from streams import heap
from streams.ownership import client_id
from streams.security import faust_broker
from streams.table import RowTable
from streams.transport import BatchSchema, Transport

if TYPE_CHECKING:
    from streams.worker import Worker


class _App(faust.App):
    worker: Worker

    async def on_start(self) -> None:
        await super().on_start()
        if self.worker.on_start is not None:
            await self.worker.on_start()


def build(worker: Worker) -> Any:
    """The application; what it is told of (assignment, recovery, fetches, the end) goes to the worker."""
    settings, state = worker.settings, worker.settings.state
    datadir = Path(state.datadir) / "faust"
    datadir.mkdir(parents=True, exist_ok=True)
    app = _App(
        f"{settings.prefix}{settings.application}",
        **faust_broker(settings),
        store="memory://",  # the table's rows are ours, see RowTable
        datadir=str(datadir),
        web_enabled=False,
        topic_partitions=settings.topics.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,  # what a merge holds back is never acked: a revoke would wait for it for ever
        stream_buffer_maxsize=2,  # fetches: each may be a megabyte, and the fetcher holds the next ones
        table_standby_replicas=0,
        broker_client_id=client_id(),
        broker_max_poll_records=state.max_poll_records,
        broker_session_timeout=state.session_timeout,
        broker_request_timeout=max(90.0, state.session_timeout),  # Faust's own, which must not be the shorter
        broker_rebalance_timeout=state.rebalance_timeout,
        broker_heartbeat_interval=min(3.0, state.session_timeout / 4),
        Table=RowTable,
    )
    app.worker = worker
    app.transport = Transport(app.conf.broker_consumer, app, resume_at=worker.resume_at)
    table = app.Table(
        "state", partitions=settings.topics.partitions, schema=BatchSchema(), key_type=bytes, value_type=bytes,
        recovery_buffer_size=8,
    )  # fmt: skip
    table.worker = worker
    read = (*settings.source_topics, settings.topic("commands"))
    sources = app.topic(*read, schema=BatchSchema(), value_type=None)

    @app.agent(sources)
    async def fetches(stream: Any) -> None:
        async for event in stream.noack().events():
            await worker.guard(worker.take(event.value))

    @app.task
    async def recovered() -> None:
        heap.calm()
        await worker.work()

    @app.on_partitions_revoked.connect
    async def revoked(*_: Any, **__: Any) -> None:
        await worker.rest()

    @app.on_before_shutdown.connect
    async def ending(*_: Any, **__: Any) -> None:
        await worker.hand_over()
        await worker.flush()
        await worker.guard(worker.release())  # a full disk: Faust would log it and never end

    return app
