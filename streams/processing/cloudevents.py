"""Events out: CloudEvents 1.0 in JSON, subject = user id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from state.rows import Ints


class _Envelope(msgspec.Struct):
    type: str
    id: str
    time: str
    subject: str
    data: Any
    specversion: str = "1.0"
    source: str = "/shoal"
    datacontenttype: str = "application/json"


def rfc3339(ms: Ints) -> list[str]:
    """Epoch milliseconds as RFC 3339 in UTC."""
    return np.datetime_as_string(ms.astype("M8[ms]"), timezone="UTC").tolist()


def event_ids(users: Sequence[bytes], births: Sequence[int], seqs: Sequence[int], kind: str) -> list[str]:
    """The same for the same change, whoever computes it: readers that do not isolate drop repeats by it."""
    digest, tail = hashlib.blake2b, kind.encode()
    return [
        digest(b"%b\x00%d\x00%d\x00%b" % (user, birth, seq, tail), digest_size=16).hexdigest()
        for user, birth, seq in zip(users, births, seqs, strict=True)
    ]


def encoder(kind: str) -> Callable[[str, str, str, Any], bytes]:
    """Encodes (id, subject, time, data) as an event of a type."""
    encode, name = msgspec.json.Encoder().encode, f"shoal.{kind}"

    def event(ident: str, subject: str, time: str, data: Any) -> bytes:
        return encode(_Envelope(name, ident, time, subject, data))

    return event
