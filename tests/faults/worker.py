"""`python -m tests.faults.worker`: shoal's command line with a point at which it kills or stops itself.

FAILPOINT=name:n:how; name one of POINTS, n the hit that counts, how "kill" or "stop". Production code has no hooks:
methods are wrapped here.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import streams.runtime.publisher
import streams.runtime.worker
from state.stores.rocksdb import RowStore
from streams.cli import main
from streams.processing.partition_processor import PartitionProcessor
from streams.runtime.publisher import Publisher

POINTS = ("in_transaction", "after_commit", "after_written", "before_cut", "in_pass", "in_sweep")


def arm(name: str, hit: int, how: str) -> None:
    """The process ends, or stops, at a point's n-th hit."""
    left = [hit]

    def fire() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)

    def after(owner: type[Any], method: str) -> None:
        """When a method has done something."""
        whole: Callable[..., Any] = getattr(owner, method)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            out = whole(*args, **kwargs)
            if out != 0:
                fire()
            return out

        setattr(owner, method, wrapped)

    if name == "in_transaction":
        send = streams.runtime.publisher.send_records

        async def sent(producer: Any, topic: str, *arguments: Any) -> Any:
            out = await send(producer, topic, *arguments)
            if not topic.endswith("-changelog"):
                await asyncio.gather(*(future for future, _ in out))  # they lie on the broker
                fire()
            return out

        streams.runtime.publisher.send_records = sent  # type: ignore[assignment]
    elif name == "after_commit":
        commit = Publisher.commit

        async def committed(self: Publisher, flush: Any) -> int:
            offset = await commit(self, flush)
            fire()
            return offset

        Publisher.commit = committed  # type: ignore[method-assign]
    elif name == "after_written":
        after(RowStore, "write_flush")
    elif name == "before_cut":
        cut = PartitionProcessor.cut

        def cutting(self: PartitionProcessor, now: int) -> Any:
            fire()
            return cut(self, now)

        PartitionProcessor.cut = cutting  # type: ignore[method-assign]
    elif name == "in_pass":
        after(PartitionProcessor, "continue_pass")
    elif name == "in_sweep":
        after(PartitionProcessor, "sweep")
    else:
        raise SystemExit(f"no such failpoint: {name}")


if __name__ == "__main__":
    if point := os.environ.get("FAILPOINT"):
        streams.runtime.worker.USERS_PER_TURN = 25  # a pass of the few users here takes more than a turn
        chosen, number, end = point.split(":")
        arm(chosen, int(number), end)
    main()
