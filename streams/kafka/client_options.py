"""Turns the settings into arguments of the Kafka clients: aiokafka, kafka-python and Faust."""

from __future__ import annotations

import ssl
from typing import Any

from streams.config.settings import Settings
from streams.errors import SettingsError


def servers(settings: Settings) -> list[str]:
    """The bootstrap servers, each as host:port."""
    return [server.strip() for server in settings.kafka.bootstrap_servers.split(",")]


def aiokafka_options(settings: Settings) -> dict[str, Any]:
    """Arguments of aiokafka's consumers and producers. SettingsError where the security settings do not fit."""
    return _connection_options(settings)


def kafka_python_options(settings: Settings) -> dict[str, Any]:
    """Arguments of kafka-python's clients. SettingsError where the security settings do not fit."""
    return _connection_options(settings)


def faust_broker(settings: Settings) -> dict[str, Any]:
    """Arguments of faust.App: `broker` and, with TLS or SASL, `broker_credentials`."""
    from faust.auth import SASLCredentials, SSLCredentials  # takes half a second, which other clients need not spend

    connection = _connection_options(settings)
    options: dict[str, Any] = {"broker": [f"kafka://{server}" for server in connection["bootstrap_servers"]]}
    context = connection.get("ssl_context")
    if "sasl_mechanism" in connection:
        options["broker_credentials"] = SASLCredentials(
            username=connection["sasl_plain_username"],
            password=connection["sasl_plain_password"],
            mechanism=connection["sasl_mechanism"],
            ssl_context=context,
        )
    elif context:
        options["broker_credentials"] = SSLCredentials(context)
    return options


def _connection_options(settings: Settings) -> dict[str, Any]:
    """Servers, TLS and SASL under the names that aiokafka and kafka-python share."""
    kafka = settings.kafka
    options: dict[str, Any] = {
        "bootstrap_servers": servers(settings),
        "security_protocol": kafka.security_protocol,
    }
    context = _ssl_context(settings)
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


def _ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context, None where the security protocol has no TLS."""
    kafka = settings.kafka
    if "SSL" not in kafka.security_protocol.split("_"):
        return None
    try:
        context = ssl.create_default_context(cafile=str(kafka.ssl_cafile) if kafka.ssl_cafile else None)
        context.check_hostname = kafka.ssl_check_hostname
        if kafka.ssl_certfile:
            password = kafka.ssl_keyfile_password
            context.load_cert_chain(
                kafka.ssl_certfile, kafka.ssl_keyfile, password.get_secret_value() if password else None
            )
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"kafka.ssl_*: {error}") from None
    return context
