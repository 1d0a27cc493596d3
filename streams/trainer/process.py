"""A trainer as a process: signals, and what its errors mean."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaError

from streams.config.settings import Settings
from streams.errors import BrokerError
from streams.kafka.connectivity import unreachable
from streams.runtime.fatal_errors import denied
from streams.trainer.service import Say, Trainer

if TYPE_CHECKING:
    from online_models.encoder.autoencoder import Epoch


def run(
    settings: Settings, *, once: bool, say: Say, step: Callable[[Epoch], None], done: Callable[[dict[str, Any]], None]
) -> None:
    """Until the work is done, SIGTERM or SIGINT; the errors are those of `shoal train`."""
    trainer = Trainer(settings, say=say, step=step, done=done)
    asyncio.run(_guarded(settings, trainer.once() if once else trainer.run()))


async def _guarded(settings: Settings, work: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        with suppress(asyncio.CancelledError):
            await task
    except KafkaError as error:
        raise denied(error) or await _why(settings, error) from error


async def _why(settings: Settings, error: KafkaError) -> BrokerError:
    return BrokerError(f"{await unreachable(settings)} ({error!r})")
