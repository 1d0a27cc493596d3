"""The replay: a file's events into the source topics, record time = event time, paced or at full speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.config.factories import spell
from streams.config.settings import Settings
from streams.errors import BrokerError, DataError
from streams.kafka.client_options import kafka_python_options
from streams.kafka.connectivity import unreachable_now
from streams.offline.event_files import Line, Spell, lines

DAY_MS = 86_400_000


def span(path: Path, schema: str) -> tuple[int, int, int]:
    """Events of a file, and its first and last time (ms)."""
    count, first, last = 0, 1 << 62, 0
    for chunk in lines(path, schema):
        count += len(chunk)
        first = min(first, min(line.timestamp for line in chunk))
        last = max(last, max(line.timestamp for line in chunk))
    return count, first, last


def speller(settings: Settings) -> Spell:
    """An event as the source has it that `replay` sends it to."""
    clicks, bought = settings.sources[0].name, settings.sources[1 if len(settings.sources) > 1 else 0].name
    names = spell(settings)
    return lambda is_bought, event: names(bought if is_bought else clicks, event)


def replay(
    settings: Settings,
    chunks: Iterable[list[Line]],
    *,
    speed: float | None = None,
    rate: float | None = None,
    allow_jumps: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Send events, keyed by user and placed by Kafka's default partitioner; how many were sent and acknowledged.

    speed: event time a second of wall time; rate: events a second; full speed where neither is given. The first
    source topic takes all but purchases and refunds, which go to the second where there is one. DataError at a jump
    of more than a day unless allowed.
    """
    topics = settings.source_topics
    clicks, bought = topics[0], topics[1] if len(topics) > 1 else topics[0]
    failures: list[BaseException] = []
    sent, clock, started, begin = 0, None, time.monotonic(), None
    try:
        producer = KafkaProducer(
            **kafka_python_options(settings),
            acks="all",
            linger_ms=20,
            batch_size=256 << 10,
            compression_type="gzip",
            allow_auto_create_topics=False,
            max_request_size=4 << 20,
        )
    except KafkaError:
        raise unreachable_now(settings) from None
    try:
        for chunk in chunks:
            for line in chunk:
                if clock is not None and line.timestamp > clock + DAY_MS and not allow_jumps:
                    raise DataError(f"event {sent + 1} jumps ahead by more than a day; --allow-jumps goes on")
                clock = line.timestamp if clock is None else max(clock, line.timestamp)
                if speed is not None or rate is not None:
                    begin = line.timestamp if begin is None else begin
                    due = sent / rate if rate else (line.timestamp - begin) / 1000.0 / (speed or 1.0)
                    ahead = due - (time.monotonic() - started)
                    if ahead > 0.02:
                        progress(sent)
                        time.sleep(ahead)
                future = producer.send(
                    bought if line.bought else clicks, value=line.value, key=line.key, timestamp_ms=line.timestamp
                )
                future.add_errback(failures.append)
                sent += 1
            progress(sent)
            if failures:
                raise BrokerError(f"a record was not taken: {failures[0]!r}")
        producer.flush()
        if failures:
            raise BrokerError(f"a record was not taken: {failures[0]!r}")
    except KafkaError as error:
        raise BrokerError(f"the replay stopped after {sent} events: {error!r}") from None
    finally:
        producer.close()
    progress(sent)
    return sent
