"""Stages of the path and the functions that are theirs, timed by wrapping them."""

from __future__ import annotations

import importlib
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

# The one place that knows the names: stage -> functions, as module:name. What is not found is told and left out.
STAGES: dict[str, tuple[str, ...]] = {
    "decode": ("streams.schemas.flat_json:FlatJson.decode",),
    "merge": ("streams.processing.time_merge:Merge.add", "streams.processing.time_merge:Merge.take_ready"),
    "history": ("state.history:apply", "state.history:events_by_row"),
    "vector": ("state.features:raw",),
    "assign": ("online_models.assignment:assign",),
    "decide": (
        "streams.processing.decisions:change_segments",
        "streams.processing.decisions:change_alerts",
        "streams.processing.decisions:send_training_rows",
    ),
    "persist": (
        "state.rows:join",
        "state.rows:cut",
        "state.stores.rocksdb:RowStore.get_many",
        "state.stores.rocksdb:RowStore.put_many",
        "state.stores.rocksdb:RowStore.write_flush",
    ),
    "due": (
        "state.expiry_index:next_due",
        "state.expiry_index:moved",
        "state.row_windows:next_edges",
        "state.stores.rocksdb:RowStore.due",
    ),
    "rest of the task": (
        "streams.processing.partition_processor:PartitionProcessor.add",
        "streams.processing.partition_processor:PartitionProcessor.run",
        "streams.processing.partition_processor:PartitionProcessor.cut",
        "streams.processing.partition_processor:PartitionProcessor.sweep",
    ),
}
PACKAGES = ("streams", "state", "online_models")


class Clock:
    """Self times in seconds and calls, by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._inner: list[float] = [0.0]  # of each call under way: time in stages below it

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - started
                self.seconds[stage] += took - self._inner.pop()
                self.calls[stage] += 1
                self._inner[-1] += took

        return timed

    def clear(self) -> None:
        self.seconds.clear()
        self.calls.clear()


def install(clock: Clock) -> list[str]:
    """Wrap the stages wherever they were imported to, for the life of the process; the names that were not found."""
    missing = []
    for stage, names in STAGES.items():
        for name in names:
            module, _, path = name.partition(":")
            owner: Any = importlib.import_module(module)
            *above, last = path.split(".")
            for step in above:
                owner = getattr(owner, step, None)
            function = getattr(owner, last, None)
            if function is None:
                missing.append(name)
                continue
            timed = clock.wrap(stage, function)
            setattr(owner, last, timed)
            for other in [m for n, m in sys.modules.items() if n.partition(".")[0] in PACKAGES]:
                for attribute, value in list(vars(other).items()):
                    if value is function:
                        setattr(other, attribute, timed)
    return missing
