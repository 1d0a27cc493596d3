"""A worker as a process: Faust's runner, signals and the page."""

from __future__ import annotations

import logging
import sys
from typing import Any

import faust
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from monitoring.web import build
from state import rows
from streams.partitioner import placed
from streams.settings import Settings
from streams.worker import Worker


def run(settings: Settings, *, accept_rejects: bool = False, accept_loss: bool = False) -> None:
    """Until SIGTERM or SIGINT: a clean stop flushes first. Leaves the process with the exit code of what failed."""
    worker = Worker(settings, accept_rejects=accept_rejects, accept_loss=accept_loss)

    @worker.app.task
    async def page() -> None:
        runner = web.AppRunner(
            build(worker.status, lambda: (b"", CONTENT_TYPE_LATEST), lambda: worker.ready, lambda u: user(worker, u))
        )
        await runner.setup()
        site = web.TCPSite(runner, settings.web.host, settings.web.port)
        await site.start()
        port = runner.addresses[0][1]
        print(f"shoal: worker on http://{settings.web.host}:{port}", file=sys.stderr, flush=True)

    loop = faust.Worker(
        worker.app, loglevel=logging.getLevelName(logging.getLogger().level), redirect_stdouts=False, quiet=True,
        override_logging=False,
    )  # fmt: skip
    loop.execute_from_commandline()


def user(worker: Worker, ident: str) -> dict[str, Any] | None:
    """One user's row as this worker holds it; None where it holds none."""
    key = ident.encode()
    part = worker.partitions.get(int(placed([key], worker.settings.topics.partitions)[0]))
    row = part.store.get_many([key])[0] if part else None
    if row is None:
        return None
    head = rows.join([row])[0][0]
    segment = int(head["segment"])
    return {
        "user": ident, "segment": None if segment == rows.UNASSIGNED else segment, "since": int(head["since"]),
        "seq": int(head["seq"]), "model_version": int(head["model"]), "clock": int(head["clock"]),
        "totals": dict(zip(rows.MEASURES, head["totals"].tolist(), strict=False)), "bytes": len(row),
    }  # fmt: skip
