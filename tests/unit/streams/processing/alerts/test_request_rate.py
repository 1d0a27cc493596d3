"""The rule `request_rate`."""

from __future__ import annotations

from streams.processing.alerts.registry import AlertSettings
from tests.support.alerting import HOUR, alerts, event


def test_many_events_in_an_hour_of_every_type_that_counts_as_a_request() -> None:
    kinds = ("page_view", "view", "search", "add_to_cart", "remove_from_cart", "checkout")
    events = [event("bot", i * 1000, kinds[i % len(kinds)]) for i in range(12)]
    found = alerts([*events, event("bot", 3 * HOUR, "view")], AlertSettings(request_rate=(5, 10)))
    assert [(a["rule"], a["severity"], a["evidence"]["events_1h"]) for a in found] == [
        ("request_rate", "warning", 5),
        ("request_rate", "critical", 10),
        ("request_rate", "none", 0),  # the hour is over before the view
    ]
    assert found[0]["thresholds"] == {"events_1h": [5, 10]}
