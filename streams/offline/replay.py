"""The replay: a file's events into the source topics, record time = event time, paced or at full speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.config.factories import schema_of
from streams.config.settings import Settings
from streams.errors import BrokerError, DataError
from streams.kafka.client_options import kafka_python_options
from streams.kafka.connectivity import unreachable_now
from streams.offline.event_files import Encode, FileRecord

DAY_MS = 86_400_000


def source_encoder(settings: Settings) -> Encode:
    """A function that turns an event into a record of the source that `replay` sends it to."""
    clicks, bought = settings.sources[0], settings.sources[1 if len(settings.sources) > 1 else 0]
    schemas = schema_of(clicks, settings), schema_of(bought, settings)
    return lambda is_bought, event: schemas[is_bought].encode(event)


def replay(
    settings: Settings,
    chunks: Iterable[list[FileRecord]],
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
            for record in chunk:
                if clock is not None and record.timestamp > clock + DAY_MS and not allow_jumps:
                    raise DataError(f"event {sent + 1} jumps ahead by more than a day; --allow-jumps goes on")
                clock = record.timestamp if clock is None else max(clock, record.timestamp)
                if speed is not None or rate is not None:
                    begin = record.timestamp if begin is None else begin
                    due = sent / rate if rate else (record.timestamp - begin) / 1000.0 / (speed or 1.0)
                    ahead = due - (time.monotonic() - started)
                    if ahead > 0.02:
                        progress(sent)
                        time.sleep(ahead)
                future = producer.send(
                    bought if record.bought else clicks,
                    value=record.value,
                    key=record.key,
                    timestamp_ms=record.timestamp,
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
