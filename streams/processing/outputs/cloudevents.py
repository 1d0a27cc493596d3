"""Events out: CloudEvents 1.0 in JSON, subject = user id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

import msgspec
import numpy as np

from state.rows import Ints


class _Envelope(msgspec.Struct, gc=False):
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


def identities(users: Sequence[bytes], births: Sequence[int], seqs: Sequence[int]) -> list[bytes]:
    """What names n changes: a user, the user's first event and the number of the change."""
    return [b"%b\x00%d\x00%d\x00" % one for one in zip(users, births, seqs, strict=True)]


def encode_events(
    kind: str, identity: Sequence[bytes], subjects: Sequence[str], times: Sequence[str], data: Iterable[Any]
) -> list[bytes]:
    """Encode n events of a type. identity (n,): what each is about, as identities() names it; with the type it gives
    the id."""
    events = map(_Envelope, repeat(f"shoal.{kind}"), _event_ids(identity, kind), times, subjects, data)
    return list(map(msgspec.json.Encoder().encode, events))


def _event_ids(identity: Sequence[bytes], kind: str) -> list[str]:
    """The same for the same change, whoever computes it: readers that do not isolate drop repeats by it."""
    digest, tail = hashlib.blake2b, kind.encode()
    return [digest(one + tail, digest_size=16).hexdigest() for one in identity]


def encoder(kind: str) -> Callable[[str, str, str, Any], bytes]:
    """Encodes (id, subject, time, data) as an event of a type."""
    encode, name = msgspec.json.Encoder().encode, f"shoal.{kind}"

    def event(ident: str, subject: str, time: str, data: Any) -> bytes:
        return encode(_Envelope(name, ident, time, subject, data))

    return event
