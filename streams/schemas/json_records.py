"""Records that are one JSON object each: bytes to structs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from streams.schemas.event_batch import Reasons

DEPTH = 64  # of nesting, in fields that are not read: beyond it Python's recursion limit would decide
_STRINGS, _BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL), re.compile(rb"[\[\]{}]")
_INDEX = re.compile(r"\[\d+\]")


def parse(values: Sequence[bytes | None], decode: Callable[[bytes], Any], limit: int, reasons: Reasons) -> list[Any]:
    """One struct a record; for a record that has none, that of `{}` and a reason. limit: bytes of a value."""
    if None not in values and max(map(len, values), default=0) <= limit:  # type: ignore[arg-type]
        whole = b"".join(values)  # type: ignore[arg-type]
        # few brackets, as in flat records: where each record is an object, none has more than DEPTH of them; records
        # that have none leave room for a deep one, which the except catches
        if whole.count(b"{") + whole.count(b"[") < len(values) + DEPTH:
            try:
                return [decode(value) for value in values]  # type: ignore[arg-type]
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # at least one is bad: look at each
    blank, structs = decode(b"{}"), []
    for i, value in enumerate(values):
        struct = blank
        if value is None:
            reasons[i] = ("null_value", "")
        elif len(value) > limit:
            reasons[i] = ("too_large", f"{len(value)} bytes")
        elif _depth(value) > DEPTH:
            reasons[i] = ("not_json", "nested too deep")
        else:
            try:
                struct = decode(value)
            except msgspec.ValidationError as error:
                # the path names a field; the message could hold a value, so only the path is kept
                path = _INDEX.sub("", str(error).rpartition("`$")[2].strip("`."))
                names = path.split(".")
                reason = "bad_price" if names[-1] == "price" and "range" in str(error) else "bad_type"
                reasons[i] = (reason, path if all(map(str.isidentifier, names)) else "")
            except (msgspec.DecodeError, UnicodeDecodeError):
                reasons[i] = ("not_json", "")
        structs.append(struct)
    return structs


def _depth(value: bytes) -> int:
    """How deep brackets are nested; those inside strings count only where there are few."""
    if value.count(b"{") + value.count(b"[") <= DEPTH:
        return 1
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", value)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest
