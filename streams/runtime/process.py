"""A worker as a process: Faust's runner, signals and the page."""

from __future__ import annotations

import logging
import sys

import faust
from aiohttp import web

from monitoring.web import build
from streams.config.settings import Settings
from streams.errors import SettingsError
from streams.kafka import acl_check
from streams.kafka.topics import ensure
from streams.runtime import heap, status
from streams.runtime.fatal_errors import fail
from streams.runtime.worker import Worker


def run(settings: Settings, *, accept_rejects: bool = False, accept_loss: bool = False) -> None:
    """Until SIGTERM or SIGINT: a clean stop flushes first. Leaves the process with the exit code of what failed."""
    heap.configure()
    ensure(settings, create=False)
    acl_check.check(settings)
    worker = Worker(settings, accept_rejects=accept_rejects, accept_loss=accept_loss)
    worker.metrics.gauges(lambda: status.gauges(worker))

    async def page() -> None:
        runner = web.AppRunner(
            build(
                lambda: status.status(worker),
                worker.metrics.render,
                worker.waiting,
                lambda ident: status.find(worker, ident),
            ),
            access_log=None,
        )
        await runner.setup()
        site = web.TCPSite(runner, settings.web.host, settings.web.port)
        try:
            await site.start()
        except OSError as error:
            fail(SettingsError(f"web.host, web.port: {settings.web.host}:{settings.web.port}: {error.strerror}"))
        port = runner.addresses[0][1]
        print(f"shoal: worker on http://{settings.web.host}:{port}", file=sys.stderr, flush=True)

    worker.on_start = page
    loop = faust.Worker(
        worker.app,
        loglevel=logging.getLevelName(logging.getLogger().level),
        redirect_stdouts=False,
        quiet=True,
        override_logging=False,
    )
    loop.execute_from_commandline()
