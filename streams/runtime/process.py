"""A worker as a process: Faust's runner, its signal handlers, and the web page."""

from __future__ import annotations

import logging
import resource
import sys
from contextlib import suppress

import faust
from aiohttp import web

from monitoring.web import build
from streams.compiling import ensure_compiled
from streams.config.settings import Settings
from streams.errors import SettingsError
from streams.kafka import acl_check
from streams.kafka.topics import ensure
from streams.runtime import heap, status
from streams.runtime.fatal_errors import exit_with_error
from streams.runtime.worker import Worker


def run(settings: Settings, *, accept_rejects: bool = False, accept_loss: bool = False) -> None:
    """Run a worker until SIGTERM or SIGINT, after which it flushes and stops.

    On a failure the process ends with the exit code of the error.
    """
    heap.configure()
    _raise_open_files()
    ensure_compiled()
    ensure(settings, create=False)
    acl_check.check(settings)
    worker = Worker(settings, accept_rejects=accept_rejects, accept_loss=accept_loss)
    worker.metrics.gauges(lambda: status.gauges(worker))

    async def start_page() -> None:
        await _start_page(worker)

    worker.on_start = start_page
    runner = faust.Worker(
        worker.app,
        loglevel=logging.getLevelName(logging.getLogger().level),
        redirect_stdouts=False,
        quiet=True,
        override_logging=False,
    )
    runner.execute_from_commandline()


def _raise_open_files() -> None:
    """Allow as many open files as the system lets a process have: a partition takes ten, the usual limit is 1,024."""
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # a system may refuse "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


async def _start_page(worker: Worker) -> None:
    """Serve health, metrics and status; print the address, whose port may have been chosen by the system."""
    web_settings = worker.settings.web
    runner = web.AppRunner(
        build(
            lambda: status.status(worker),
            worker.metrics.render,
            worker.not_ready_reason,
            lambda user_id: status.find_user(worker, user_id),
        ),
        access_log=None,
    )
    await runner.setup()
    site = web.TCPSite(runner, web_settings.host, web_settings.port)
    try:
        await site.start()
    except OSError as error:
        address = f"{web_settings.host}:{web_settings.port}"
        exit_with_error(SettingsError(f"web.host, web.port: {address}: {error.strerror}"))
    port = runner.addresses[0][1]
    print(f"shoal: worker on http://{web_settings.host}:{port}", file=sys.stderr, flush=True)
