"""The REES46 schema: shoal's own with other names; its orders are named by their session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from streams.schemas.flat_json import FlatJson
from streams.schemas.schema import Options

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


class Rees46(FlatJson):
    """Records with the columns of the REES46 file, as JSON."""

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(replace(options or Options(), fields=FIELDS, types=TYPES))

    def file_record(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with a time in RFC 3339, and the id of the category where it has no name."""
        record = {name: value for name, value in row.items() if name in FIELDS}
        record["event_time"] = str(row.get("event_time", "")).replace(" UTC", "Z").replace(" ", "T")
        record["product_id"] = row.get("product_id")
        if not record.get("category_code"):
            record["category_code"] = row.get("category_id")
        return {name: value for name, value in record.items() if value is not None}
