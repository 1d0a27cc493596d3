"""Events out: CloudEvents 1.0 in JSON, subject = user id."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec


def rfc3339(ms: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_id(user: bytes, birth: int, seq: int, kind: str) -> str:
    """The same for the same change, whoever computes it: readers that do not isolate drop repeats by it."""
    return hashlib.blake2b(b"%b\x00%d\x00%d\x00%b" % (user, birth, seq, kind.encode()), digest_size=16).hexdigest()


def encode(kind: str, ident: str, subject: str, ms: int, data: dict[str, Any]) -> bytes:
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "type": f"shoal.{kind}",
            "source": "/shoal",
            "id": ident,
            "time": rfc3339(ms),
            "subject": subject,
            "datacontenttype": "application/json",
            "data": data,
        }
    )
