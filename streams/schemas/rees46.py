"""The REES46 schema: shoal's own with other names; its orders are named by their session."""

from __future__ import annotations

from streams.schemas.flat_json import Schema, schema

FIELDS = {
    "event_time": "event_time",
    "event_type": "event_type",
    "user_id": "user_id",
    "user_session": "session_id",
    "category_code": "category",
    "brand": "brand",
    "price": "price",
}
TYPES = {"cart": "add_to_cart"}


def rees46(*, currency: str = "USD", ahead: int = 300_000, max_bytes: int = 65_536) -> Schema:
    """Records with the columns of the REES46 file, as JSON."""
    return schema(FIELDS, TYPES, name="rees46", currency=currency, ahead=ahead, max_bytes=max_bytes)
