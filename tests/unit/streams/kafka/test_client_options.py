"""One place turns the settings into the arguments of every Kafka client."""

import ssl
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from kafka import KafkaAdminClient

from streams.config.settings import Settings, load
from streams.errors import SettingsError
from streams.kafka.client_options import aiokafka_options, faust_broker, kafka_python_options

CANARY = "canary-9b2e"


def settings(**kafka: Any) -> Settings:
    return load(environ={}, **{f"kafka.{key}": value for key, value in kafka.items()})


def sasl(protocol: str, mechanism: str = "SCRAM-SHA-256") -> Settings:
    return settings(security_protocol=protocol, sasl_mechanism=mechanism, sasl_username="ann", sasl_password=CANARY)


def test_plaintext_takes_no_credentials() -> None:
    chosen = settings(bootstrap_servers="a:1, b:2")
    assert aiokafka_options(chosen) == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}
    assert kafka_python_options(chosen) == aiokafka_options(chosen)
    assert faust_broker(chosen) == {"broker": ["kafka://a:1", "kafka://b:2"]}


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_faust_hands_its_driver_what_the_other_clients_get(protocol: str, mechanism: str) -> None:
    chosen = sasl(protocol, mechanism)
    others = aiokafka_options(chosen)
    handed = dict(credentials_to_aiokafka_auth(faust_broker(chosen).get("broker_credentials")))
    assert ("ssl_context" in others) == (handed.pop("ssl_context", None) is not None) == protocol.endswith("SSL")
    assert handed == {key: value for key, value in others.items() if key not in ("bootstrap_servers", "ssl_context")}


async def test_aiokafka_takes_the_arguments_and_uses_them() -> None:
    options = aiokafka_options(sasl("SASL_SSL", "SCRAM-SHA-512"))
    client = AIOKafkaConsumer(**options)._client
    assert (client._security_protocol, client._ssl_context) == ("SASL_SSL", options["ssl_context"])
    said = (client._sasl_mechanism, client._sasl_plain_username, client._sasl_plain_password)
    assert said == ("SCRAM-SHA-512", "ann", CANARY)


def test_kafka_python_knows_the_arguments() -> None:
    options = kafka_python_options(sasl("SASL_SSL"))
    assert set(options) <= set(KafkaAdminClient.DEFAULT_CONFIG)
    assert {"security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username"} <= set(options)


def test_tls_verifies_unless_told_not_to_look_at_the_name() -> None:
    context = aiokafka_options(settings(security_protocol="SSL"))["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    context = aiokafka_options(settings(security_protocol="SSL", ssl_check_hostname=False))["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


@pytest.mark.parametrize(
    ("kafka", "key"),
    [
        ({"security_protocol": "SASL_SSL"}, "kafka.sasl_username"),
        ({"security_protocol": "SSL", "ssl_cafile": "/nowhere"}, "kafka.ssl_"),
        ({"security_protocol": "SSL", "ssl_certfile": __file__, "ssl_keyfile_password": CANARY}, "kafka.ssl_"),
    ],
)
def test_what_cannot_work_is_refused_with_the_key(kafka: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError, match=key) as caught:
        aiokafka_options(settings(**kafka))
    assert CANARY not in str(caught.value)


def test_the_password_is_in_no_repr() -> None:
    chosen = sasl("SASL_SSL")
    credentials = faust_broker(chosen)["broker_credentials"]
    assert isinstance(credentials, SASLCredentials)
    assert CANARY not in repr(chosen) + repr(credentials)
    assert isinstance(faust_broker(settings(security_protocol="SSL"))["broker_credentials"], SSLCredentials)
