"""A trainer as a process: signals, and errors of the Kafka clients."""

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
from streams.runtime.fatal_errors import authorization_error
from streams.trainer.service import Notify, Trainer

if TYPE_CHECKING:
    from online_models.encoder.autoencoder import Epoch


def run(
    settings: Settings,
    *,
    once: bool,
    notify: Notify,
    on_epoch: Callable[[Epoch], None],
    on_training: Callable[[dict[str, Any]], None],
) -> None:
    """Train until the work is done, SIGTERM or SIGINT. Raises the errors of `shoal train`.

    The callbacks are those of `Trainer`.
    """
    trainer = Trainer(settings, notify=notify, on_epoch=on_epoch, on_training=on_training)
    asyncio.run(_run_until_signal(settings, trainer.train_once() if once else trainer.run()))


async def _run_until_signal(settings: Settings, work: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        with suppress(asyncio.CancelledError):
            await task
    except KafkaError as error:
        raise authorization_error(error) or await _broker_error(settings, error) from error


async def _broker_error(settings: Settings, error: KafkaError) -> BrokerError:
    return BrokerError(f"{await unreachable(settings)} ({error!r})")
