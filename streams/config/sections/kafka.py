"""Settings [kafka]: how the clients reach the brokers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from streams.config.sections.section import Section


class Kafka(Section):
    """How every client reaches the brokers."""

    bootstrap_servers: Annotated[str, Field(pattern=r"^\s*[^\s,]+:\d+\s*(,\s*[^\s,]+:\d+\s*)*$")] = "127.0.0.1:9092"
    """Brokers as host:port, separated by commas."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How connections are secured."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """SASL mechanism; used with `SASL_PLAINTEXT` and `SASL_SSL`."""
    sasl_username: str | None = None
    """SASL user name."""
    sasl_password: SecretStr | None = None
    """SASL password."""
    ssl_cafile: Path | None = None
    """PEM file of the certificate authorities that sign the brokers' certificates."""
    ssl_certfile: Path | None = None
    """PEM file of the client's certificate."""
    ssl_keyfile: Path | None = None
    """PEM file of the client's private key; needs `ssl_certfile`."""
    ssl_keyfile_password: SecretStr | None = None
    """Password of the private key."""
    ssl_check_hostname: bool = True
    """Whether the broker's certificate must name the host."""

    @model_validator(mode="after")
    def _check_key_pair(self) -> Kafka:
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile: needs kafka.ssl_certfile, the certificate of this key")
        return self
