"""Connects to the brokers, and finds out why no connection can be made.

The Kafka clients raise a general error and log the cause for each attempt. So when a client cannot connect, each
bootstrap server is tried once more here, and the error names what each one answers.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError, SaslAuthenticationFailed
from kafka import KafkaAdminClient
from kafka.errors import KafkaError as AdminError

from streams.config.settings import Settings
from streams.errors import BrokerError
from streams.kafka.client_options import aiokafka_options, kafka_python_options

ASK_MS = 5_000  # timeout of the connection that finds out the cause
BOOTSTRAP_MS = 10_000  # timeout of the admin client's first connection


@contextmanager
def administering(settings: Settings) -> Iterator[KafkaAdminClient]:
    """An admin client, closed at the end. BrokerError says why no broker can be reached."""
    try:
        admin = KafkaAdminClient(**kafka_python_options(settings), bootstrap_timeout_ms=BOOTSTRAP_MS)
    except AdminError:
        raise unreachable_now(settings) from None
    try:
        yield admin
    finally:
        admin.close()


async def unreachable(settings: Settings) -> BrokerError:
    """The error to raise when a client could not connect: tries each server once more, and names the cause of each."""
    options = aiokafka_options(settings)
    servers_by_cause: dict[str, list[str]] = {}
    for server in options.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        cause = await _find_cause(host.strip("[]"), int(port), options)
        servers_by_cause.setdefault(cause, []).append(server)
    return BrokerError("; ".join(f"no broker at {','.join(at)}: {cause}" for cause, at in servers_by_cause.items()))


def unreachable_now(settings: Settings) -> BrokerError:
    """As unreachable(), for callers outside an event loop."""
    return asyncio.run(unreachable(settings))


async def _find_cause(host: str, port: int, options: dict[str, Any]) -> str:
    """Connect to one server, and say in words why that fails."""
    try:
        connection = await create_conn(host, port, request_timeout_ms=ASK_MS, **options)
        connection.close()
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is refused: {error.verify_message} (kafka.ssl_cafile, kafka.ssl_check_hostname)"
    except ssl.SSLError as error:
        return f"no TLS: {error.reason or error}"
    except SaslAuthenticationFailed as error:  # the text comes from the broker and never contains the password
        return f"it refuses user {options['sasl_plain_username']!r}: {', '.join(map(str, error.args))}"
    except KafkaError as error:
        return str(error)
    except (TimeoutError, OSError) as error:
        return getattr(error, "strerror", None) or "no answer"
    return "it answers, but not in time"
