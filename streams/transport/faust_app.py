"""The Faust application of a worker: group membership, and the agent that passes fetches on.

There is no Faust table: the assignment holds the state and recovers it (streams/runtime/assignment.py). Faust reports
the end of a recovery to whoever owns partitions at that moment, so after a rebalance in the middle of a recovery it
would start tasks too early.
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
    """The application. It calls the worker on assignments, fetches and the end of the process."""
    app = _create(worker)
    settings = worker.settings
    topics = (*settings.source_topics, settings.topic("commands"))
    sources = app.topic(*topics, schema=BatchSchema(), value_type=None)

    @app.agent(sources)
    async def fetches(stream: Any) -> None:
        # Nothing is acknowledged to Faust: the offsets to read from are part of the tasks' progress.
        async for event in stream.noack().events():
            await worker.exit_on_error(worker.process_fetch(*event.value))

    @app.task
    async def start_background_tasks() -> None:
        heap.tune_collector()
        worker.start_background_tasks()

    @app.on_partitions_assigned.connect
    async def assigned(_: Any, partitions: set[Any], **__: Any) -> None:
        worker.assign({tp.partition for tp in partitions})

    @app.on_partitions_revoked.connect
    async def revoked(*_: Any, **__: Any) -> None:
        await worker.revoke()

    @app.on_before_shutdown.connect
    async def shutting_down(*_: Any, **__: Any) -> None:
        await worker.stop_repartitioning()
        await worker.flush()
        # Through exit_on_error: of an error such as a full disk Faust would only write a log line, and not end.
        await worker.exit_on_error(worker.close())

    return app


def _create(worker: Worker) -> Any:
    """The application without its agent and callbacks."""
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
        stream_wait_empty=False,  # with True a revoke would wait for ever, since events are never acknowledged
        stream_buffer_maxsize=2,  # fetches: each may be a megabyte, and the fetcher holds the next ones
        broker_client_id=client_id(),
        broker_max_poll_records=state.max_poll_records,
        broker_session_timeout=state.session_timeout,
        broker_request_timeout=max(90.0, state.session_timeout),  # Faust refuses one shorter than the session's
        broker_rebalance_timeout=state.rebalance_timeout,
        broker_heartbeat_interval=min(3.0, state.session_timeout / 4),
    )
    app.worker = worker
    app.transport = Transport(app.conf.broker_consumer, app)
    return app
