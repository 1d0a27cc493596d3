"""An embedded Kafka that trusts nobody: TLS, SASL/SCRAM and ACLs on one listener; the plain one is the set-up's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from streams.embedded_kafka.process import free_port, locked
from tests.support.broker import shared_broker

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass(frozen=True)
class Secured:
    """Such a broker. admin: the set-up's client, of a super user. home: holds ca.pem, client.pem and client.key."""

    bootstrap: str
    admin: KafkaAdminClient
    home: Path

    def add_user(self, name: str, password: str) -> None:
        self.admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, password)]
        )

    def settings(self, user: str, password: str) -> dict[str, Any]:
        """The settings by which a client comes in as that user."""
        return {
            "kafka.bootstrap_servers": self.bootstrap,
            "kafka.security_protocol": "SASL_SSL",
            "kafka.sasl_username": user,
            "kafka.sasl_password": password,
            "kafka.ssl_cafile": str(self.home / "ca.pem"),
        }


def _key(found: trustme.Blob, encryption: KeySerializationEncryption) -> bytes:
    """PKCS #8, the one form that Kafka takes."""
    return load_pem_private_key(found.bytes(), None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@contextmanager
def secured(home: Path, *, keyfile_password: str) -> Iterator[Secured]:
    """The broker of a folder, with a CA of its own, shared by the processes of the test session; clients may show a
    certificate, whose key has that password."""
    home.mkdir(parents=True, exist_ok=True)
    with locked(home / "certificates.lock"):
        if not (home / "overrides.json").exists():
            _certificates(home, keyfile_password)
            (home / "overrides.json").write_text(json.dumps(_overrides(home, free_port(None, None))))
    overrides = json.loads((home / "overrides.json").read_text())
    with shared_broker(home, overrides) as bootstrap:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            yield Secured(overrides["listeners"].removeprefix("SECURED://"), admin, home)
        finally:
            admin.close()


def _certificates(home: Path, keyfile_password: str) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(home / "ca.pem")
    trustme.CA().cert_pem.write_to_path(home / "other-ca.pem")
    client = ca.issue_cert("shoal@example.org")
    (home / "client.pem").write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
    (home / "client.key").write_bytes(_key(client.private_key_pem, BestAvailableEncryption(keyfile_password.encode())))
    server = ca.issue_cert("127.0.0.1")
    (home / "server.pem").write_bytes(
        _key(server.private_key_pem, NoEncryption()) + b"".join(blob.bytes() for blob in server.cert_chain_pems)
    )


def _overrides(home: Path, port: int) -> dict[str, str]:
    """Lines of server.properties."""
    listener = "listener.name.secured"
    return {
        "listeners": f"SECURED://127.0.0.1:{port}",
        "advertised.listeners": f"SECURED://127.0.0.1:{port}",
        "listener.security.protocol.map": "SECURED:SASL_SSL",
        f"{listener}.ssl.keystore.type": "PEM",
        f"{listener}.ssl.keystore.location": str(home / "server.pem"),
        f"{listener}.ssl.truststore.type": "PEM",
        f"{listener}.ssl.truststore.location": str(home / "ca.pem"),
        f"{listener}.ssl.client.auth": "requested",
        f"{listener}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        f"{listener}.scram-sha-512.sasl.jaas.config": f"{SCRAM} required;",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # the plain listeners: the broker itself and the set-up
    }
