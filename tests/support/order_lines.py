"""A schema whose records are orders: one event for each line, none for an order without lines.

An example of what `streams/schemas/schema.py` asks of a schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from streams.schemas import event_columns, routed_batch
from streams.schemas.event_batch import EventBatch, Reasons
from streams.schemas.json_records import parse
from streams.schemas.record_batch import RecordBatch
from streams.schemas.routed_batch import RoutedBatch
from streams.schemas.schema import Options


class Line(msgspec.Struct):
    """A line of an order; its time (ms) is the order's unless it has one of its own."""

    price: float | None = None
    pieces: int | None = None
    category: str | None = None
    time: int | None = None


class Order(msgspec.Struct):
    order: str | None = None
    customer: str | int | None = None
    time: int | None = None
    lines: list[Line] = []


class OrderLines:
    """Orders as JSON objects."""

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._decode_order = msgspec.json.Decoder(Order).decode

    def decode(self, batch: RecordBatch, *, source: int, key_before: int, now: int | None) -> EventBatch:
        """A purchase for each line."""
        options, reasons = self._options, Reasons()
        orders = parse(batch.values, self._decode_order, options.max_bytes, reasons)
        lines = [(order, i, line) for order in orders for i, line in enumerate(order.lines)]
        fields = {
            "event_time": [order.time if line.time is None else line.time for order, _, line in lines],
            "event_type": ["purchase"] * len(lines),
            "event_id": [order.order and f"{order.order}/{i}" for order, i, _ in lines],
            "transaction_id": [order.order for order, _, _ in lines],
            "price": [line.price for _, _, line in lines],
            "quantity": [line.pieces for _, _, line in lines],
            "category": [line.category for _, _, line in lines],
        }
        return event_columns.build(
            batch,
            [order.customer for order in orders],
            fields,
            np.repeat(np.arange(len(orders)), [len(order.lines) for order in orders]),
            reasons,
            types=event_columns.type_codes({}),
            currency=options.currency,
            ahead=options.ahead,
            source=source,
            key_before=key_before,
            now=now,
        )

    def route(self, batch: RecordBatch, *, key_before: int, now: int) -> RoutedBatch:
        """By the customer."""
        options, reasons = self._options, Reasons()
        orders = parse(batch.values, self._decode_order, options.max_bytes, reasons)
        times = [[order.time if line.time is None else line.time for line in order.lines] for order in orders]
        return routed_batch.build(
            batch,
            [order.customer for order in orders],
            [max((time for time in of_order if time is not None), default=None) for of_order in times],
            reasons,
            ahead=options.ahead,
            max_bytes=options.max_bytes,
            key_before=key_before,
            now=now,
        )

    def encode(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """An order of one line."""
        if event.get("event_type") != "purchase":
            raise ValueError("an order has purchases only")
        line = {"price": event.get("price"), "pieces": event.get("quantity"), "category": event.get("category")}
        order = {"order": event.get("transaction_id"), "customer": event["user_id"], "time": event["event_time"]}
        return order | {"lines": [line]}

    def file_record(self, row: dict[str, Any]) -> dict[str, Any]:
        return row

    def own_events(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        order = record.get("order")
        return [
            {
                "user_id": record.get("customer"),
                "event_time": record.get("time") if line.get("time") is None else line["time"],
                "event_type": "purchase",
                "event_id": order and f"{order}/{i}",
                "transaction_id": order,
                "price": line.get("price"),
                "quantity": line.get("pieces"),
                "category": line.get("category"),
            }
            for i, line in enumerate(record.get("lines", []))
        ]
