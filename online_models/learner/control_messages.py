"""Control messages: what others want of the learner, records of `training-rows` among the rows, so that a rebuild
repeats them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

KEY = b"order"  # of such a record


class ControlMessage(msgspec.Struct, frozen=True):
    """Three actions.

    - candidate: an encoder that was trained; embeddings are its from the next version on
    - promote: segments are made in a space ("windows", or "embedding" by the candidate whose encoder is named)
    - rollback: a former version's segments come back
    """

    action: Literal["candidate", "promote", "rollback"] = msgspec.field(name="order")
    request_id: str
    encoder: bytes = b""  # candidate: its file (safetensors)
    space: Literal["windows", "embedding"] = "embedding"  # promote
    ident: str = ""  # promote: of the encoder
    version: bytes = b""  # rollback: as it stands in `models`
    verdict: dict[str, Any] = {}  # what it was judged by, for those who read it later


class Answer(msgspec.Struct, frozen=True):
    """What became of a control message; `shoal models` waits for it in `commands-results`."""

    request_id: str
    action: str = msgspec.field(name="order")
    accepted: bool
    why: str  # where it was refused, or what it led to
    version: int  # the newest, after it
    offset: int  # of the message


_decode = msgspec.json.Decoder(ControlMessage).decode


def decode(value: bytes | None) -> ControlMessage | str:
    """The message of a record's value (JSON), or what is wrong with it."""
    if value is None:
        return "no value"
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"no control message: {error}"


def encode(message: ControlMessage) -> bytes:
    return msgspec.json.encode(message)
