"""What the process logs to stderr. Repeated messages of the Kafka clients are limited to one a minute."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

CLIENT_LOGGERS = ("aiokafka", "kafka")  # while a broker is away these log the same message at each retry
INTERVAL = 60.0  # seconds between two records of one kind
# A rebalance overtook a commit of the group's offsets. This is expected, so it is logged at level INFO.
LOST_GENERATION = "OffsetCommit failed for group %s due to group"


def configure(*, verbose: bool) -> None:
    """Log to stderr: from level INFO on if verbose, otherwise from WARNING on."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(ClientFilter())
    if not verbose:  # kafka-python logs each attempt to connect; the error that follows reports it once
        logging.getLogger("kafka").setLevel(logging.CRITICAL)


class ClientFilter(logging.Filter):
    """Passes one warning or error of each kind per interval, and appends how many were suppressed before it.

    Only records of the Kafka clients are filtered. A kind is a logger and a message before its arguments are filled in.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed: dict[tuple[str, str], tuple[float, int]] = {}  # time of the last one, suppressed since then

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in CLIENT_LOGGERS or record.levelno < logging.WARNING:
            return True
        kind, now = (record.name, str(record.msg)), self._clock()
        last_passed, suppressed = self._passed.get(kind, (now - INTERVAL, 0))
        if now - last_passed < INTERVAL:
            self._passed[kind] = last_passed, suppressed + 1
            return False
        self._passed[kind] = now, 0
        if suppressed:
            record.msg = f"{record.getMessage()} ({suppressed} more of this kind since the last one)"
            record.args = None
        if kind[1].startswith(LOST_GENERATION):
            record.levelno, record.levelname = logging.INFO, "INFO"
            return logging.getLogger().isEnabledFor(logging.INFO)
        return True
