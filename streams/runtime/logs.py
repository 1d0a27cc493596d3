"""What the process logs on stderr: the clients' messages about a broker that is away once a minute, not each try."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

CLIENTS = ("aiokafka", "kafka")  # loggers whose messages are repeated with every try
INTERVAL = 60.0  # seconds between two records of one kind
LOST_GENERATION = "OffsetCommit failed for group %s due to group"  # a rebalance was quicker than a commit: expected


def configure(*, verbose: bool) -> None:
    """Log to stderr: from INFO on where verbose, else from WARNING on."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(ClientFilter())
    if not verbose:  # kafka-python logs each attempt to connect; the error tells it once
        logging.getLogger("kafka").setLevel(logging.CRITICAL)


class ClientFilter(logging.Filter):
    """Of the Kafka clients' warnings and errors of one kind (logger and message before its arguments are filled in)
    one record an interval passes, which says how many were left out before it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed: dict[tuple[str, str], tuple[float, int]] = {}  # when one last passed, and how many did not since

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in CLIENTS or record.levelno < logging.WARNING:
            return True
        kind, now = (record.name, str(record.msg)), self._clock()
        last, left_out = self._passed.get(kind, (now - INTERVAL, 0))
        if now - last < INTERVAL:
            self._passed[kind] = last, left_out + 1
            return False
        self._passed[kind] = now, 0
        if left_out:
            record.msg = f"{record.getMessage()} ({left_out} more of this kind since the last one)"
            record.args = None
        if kind[1].startswith(LOST_GENERATION):
            record.levelno, record.levelname = logging.INFO, "INFO"
            return logging.getLogger().isEnabledFor(logging.INFO)
        return True
