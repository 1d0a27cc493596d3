"""The fields of an event in shoal's own schema, and the bounds of their values."""

from __future__ import annotations

from typing import Any

_TEXT = str | int | None
FIELDS: dict[str, Any] = {
    "event_time": _TEXT,
    "event_type": str | None,
    "user_id": _TEXT,
    "event_id": _TEXT,
    "session_id": _TEXT,
    "transaction_id": _TEXT,
    "category": _TEXT,
    "brand": _TEXT,
    "price": float | None,
    "quantity": int | float | None,
    "currency": str | None,
    "country": _TEXT,
    "region": _TEXT,
    "city": _TEXT,
}
USER_LIMIT = 1024  # bytes of a user id
QUANTITY_LIMIT = 10**9  # pieces
LINE_LIMIT = 10**12  # minor units of price times quantity: a larger one is taken for a mistake
