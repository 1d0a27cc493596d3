"""Faust around a worker: group membership and the agent that hands over fetches.

There is no Faust table: the state and its recovery are the assignment's own (streams/runtime/assignment.py). Faust
tells the end of a recovery to whoever owns partitions by then, so a rebalance in the middle of one would begin tasks
too early.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust

from streams.kafka.client_options import faust_broker
from streams.runtime import heap
from streams.services.ownership import client_id
from streams.transport.batch_transport import BatchSchema, Transport

if TYPE_CHECKING:
    from streams.runtime.worker import Worker


class _App(faust.App):
    worker: Worker

    async def on_start(self) -> None:
        await super().on_start()
        if self.worker.on_start is not None:
            await self.worker.on_start()


def build(worker: Worker) -> Any:
    """The application; what it is told of (assignments, fetches, the end) goes to the worker."""
    settings, state = worker.settings, worker.settings.state
    datadir = Path(state.datadir) / "faust"
    datadir.mkdir(parents=True, exist_ok=True)
    app = _App(
        f"{settings.prefix}{settings.application}",
        **faust_broker(settings),
        datadir=str(datadir),
        web_enabled=False,
        topic_partitions=settings.topics.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,  # what a merge holds back is never acked: a revoke would wait for it for ever
        stream_buffer_maxsize=2,  # fetches: each may be a megabyte, and the fetcher holds the next ones
        broker_client_id=client_id(),
        broker_max_poll_records=state.max_poll_records,
        broker_session_timeout=state.session_timeout,
        broker_request_timeout=max(90.0, state.session_timeout),  # Faust's own, which must not be the shorter
        broker_rebalance_timeout=state.rebalance_timeout,
        broker_heartbeat_interval=min(3.0, state.session_timeout / 4),
    )
    app.worker = worker
    app.transport = Transport(app.conf.broker_consumer, app)
    read = (*settings.source_topics, settings.topic("commands"))
    sources = app.topic(*read, schema=BatchSchema(), value_type=None)

    @app.agent(sources)
    async def fetches(stream: Any) -> None:
        async for event in stream.noack().events():
            await worker.guard(worker.take(*event.value))

    @app.task
    async def first_assignment() -> None:
        heap.calm()
        await worker.work()

    @app.on_partitions_assigned.connect
    async def assigned(_: Any, partitions: set[Any], **__: Any) -> None:
        worker.own({at.partition for at in partitions})

    @app.on_partitions_revoked.connect
    async def revoked(*_: Any, **__: Any) -> None:
        await worker.rest()

    @app.on_before_shutdown.connect
    async def ending(*_: Any, **__: Any) -> None:
        await worker.hand_over()
        await worker.flush()
        await worker.guard(worker.release())  # a full disk: Faust would log it and never end

    return app
