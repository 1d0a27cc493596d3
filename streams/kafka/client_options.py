"""One place that turns the settings into arguments of the Kafka clients."""

from __future__ import annotations

import ssl
from typing import Any

from streams.config.settings import Settings
from streams.errors import SettingsError


def servers(settings: Settings) -> list[str]:
    """The brokers to ask first, host:port."""
    return [server.strip() for server in settings.kafka.bootstrap_servers.split(",")]


def _context(settings: Settings) -> ssl.SSLContext | None:
    kafka = settings.kafka
    if "SSL" not in kafka.security_protocol.split("_"):
        return None
    try:
        context = ssl.create_default_context(cafile=str(kafka.ssl_cafile) if kafka.ssl_cafile else None)
        context.check_hostname = kafka.ssl_check_hostname
        if kafka.ssl_certfile:
            secret = kafka.ssl_keyfile_password
            context.load_cert_chain(
                kafka.ssl_certfile, kafka.ssl_keyfile, secret.get_secret_value() if secret else None
            )
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"kafka.ssl_*: {error}") from None
    return context


def _options(settings: Settings) -> dict[str, Any]:
    kafka = settings.kafka
    options: dict[str, Any] = {
        "bootstrap_servers": servers(settings),
        "security_protocol": kafka.security_protocol,
    }
    context = _context(settings)
    if context:
        options["ssl_context"] = context
    if kafka.security_protocol.startswith("SASL"):
        if not kafka.sasl_username or kafka.sasl_password is None:
            raise SettingsError("kafka.sasl_username and kafka.sasl_password: needed by the security protocol")
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    return options


def aiokafka_options(settings: Settings) -> dict[str, Any]:
    """Arguments of aiokafka's consumers and producers."""
    return _options(settings)


def kafka_python_options(settings: Settings) -> dict[str, Any]:
    """Arguments of kafka-python's clients."""
    return _options(settings)


def faust_broker(settings: Settings) -> dict[str, Any]:
    """Arguments of faust.App: broker and, where the protocol has them, broker_credentials."""
    from faust.auth import SASLCredentials, SSLCredentials  # half a second that the other clients need not wait

    found = _options(settings)
    options: dict[str, Any] = {"broker": [f"kafka://{server}" for server in found["bootstrap_servers"]]}
    context = found.get("ssl_context")
    if "sasl_mechanism" in found:
        options["broker_credentials"] = SASLCredentials(
            username=found["sasl_plain_username"],
            password=found["sasl_plain_password"],
            mechanism=found["sasl_mechanism"],
            ssl_context=context,
        )
    elif context:
        options["broker_credentials"] = SSLCredentials(context)
    return options
