"""Reaching the brokers, and why they cannot be: clients say that they could not, and log the rest, by attempt."""

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

ASK_MS = 5_000
BOOTSTRAP_MS = 10_000


@contextmanager
def administering(settings: Settings) -> Iterator[KafkaAdminClient]:
    """An admin client, closed at the end; BrokerError says why no broker can be reached."""
    try:
        admin = KafkaAdminClient(**kafka_python_options(settings), bootstrap_timeout_ms=BOOTSTRAP_MS)
    except AdminError:
        raise unreachable_now(settings) from None
    try:
        yield admin
    finally:
        admin.close()


async def unreachable(settings: Settings) -> BrokerError:
    """The error to raise where a client could not come in: each server is tried once more, and what it says is told."""
    options = aiokafka_options(settings)
    found: dict[str, list[str]] = {}
    for server in options.pop("bootstrap_servers"):
        host, _, port = server.rpartition(":")
        found.setdefault(await _why(host.strip("[]"), int(port), options), []).append(server)
    return BrokerError("; ".join(f"no broker at {','.join(at)}: {why}" for why, at in found.items()))


def unreachable_now(settings: Settings) -> BrokerError:
    """The same where no event loop runs."""
    return asyncio.run(unreachable(settings))


async def _why(host: str, port: int, options: dict[str, Any]) -> str:
    try:
        (await create_conn(host, port, request_timeout_ms=ASK_MS, **options)).close()
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is refused: {error.verify_message} (kafka.ssl_cafile, kafka.ssl_check_hostname)"
    except ssl.SSLError as error:
        return f"no TLS: {error.reason or error}"
    except SaslAuthenticationFailed as error:  # the broker's words, which never hold the password
        return f"it refuses user {options['sasl_plain_username']!r}: {', '.join(map(str, error.args))}"
    except KafkaError as error:
        return str(error)
    except (TimeoutError, OSError) as error:
        return getattr(error, "strerror", None) or "no answer"
    return "it answers, but not in time"
