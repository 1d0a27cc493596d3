"""Commands: erase a user, move a partition's watermark by hand; each leaves a receipt, or a dead letter."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from streams.processing.outputs.cloudevents import encoder, rfc3339
from streams.schemas.event_fields import USER_LIMIT
from streams.schemas.record_batch import RecordBatch
from streams.schemas.timestamps import BAD, to_ms

REQUEST_LIMIT = 200  # characters of a request id


class Command(msgspec.Struct):
    """erase: the user, wherever shoal keeps the id; advance: the watermark to a time."""

    command: Literal["erase", "advance"]
    request_id: str
    user_id: str | int | None = None
    to: str | int | None = None  # RFC 3339 or epoch milliseconds


class _Receipt(msgspec.Struct):
    request_id: str
    command: str
    result: str  # erased, unknown; advanced, unchanged
    partition: int
    offset: int  # of the command


_decode = msgspec.json.Decoder(Command).decode


def decode(value: bytes | None) -> Command | str:
    """The command, or what is wrong with it; names fields, never values."""
    if value is None:
        return "no value"
    try:
        command = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 'not {"command": "erase" or "advance", "request_id": ..., "user_id" or "to": ...}'
    if not 0 < len(command.request_id) <= REQUEST_LIMIT:
        return f"request_id: 1 to {REQUEST_LIMIT} characters"
    if command.command == "erase" and not 0 < len(user := user_key(command)) <= USER_LIMIT:
        return "user_id is missing" if not user else f"user_id: at most {USER_LIMIT} bytes"
    if command.command == "erase" and b"\0" in user:  # keys that begin with one are the store's own
        return "user_id: no id has a NUL in it"
    if command.command == "advance" and time(command) is None:
        return "to: neither RFC 3339 nor epoch milliseconds"
    return command


def user_key(command: Command) -> bytes:
    """The user's key; empty where there is none."""
    return b"" if command.user_id is None else str(command.user_id).encode()


def time(command: Command) -> int | None:
    """Where an advance leads, ms."""
    time = int(to_ms([command.to])[0])
    return None if time == BAD else time


def encode(command: Command) -> bytes:
    return msgspec.json.encode(command)


def receipt(command: Command, result: str, batch: RecordBatch, offset: int, now: int) -> bytes:
    """The record that says what became of a command: it names the request, never the user."""
    data = _Receipt(command.request_id, command.command, result, batch.partition, offset)
    ident = f"{batch.topic}-{batch.partition}-{offset}"
    return encoder("receipt")(ident, command.request_id, rfc3339(np.array([now]))[0], data)
