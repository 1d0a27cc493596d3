"""The rule `refund_burst`."""

from __future__ import annotations

from streams.processing.alerts.registry import AlertSettings
from tests.support.alerting import MINUTE, alerts, event

REFUNDS = [event("r", i * MINUTE, "refund", 10.0) for i in range(3)]


def test_many_refunds() -> None:
    (found,) = alerts(REFUNDS, AlertSettings(refunds=(3, 10)))
    assert (found["rule"], found["status"], found["evidence"]) == (
        "refund_burst",
        "open",
        {"refunds_24h": 3, "orders_7d": 0},
    )
    assert found["thresholds"] == {"refunds_24h": [3, 10], "share_7d": 0.5}


def test_refunds_that_are_few_beside_the_orders_are_no_burst() -> None:
    orders = [event("r", -i * MINUTE, "purchase", 10.0) for i in range(1, 5)][::-1]
    assert alerts(orders + REFUNDS, AlertSettings(refunds=(3, 10))) == []
    assert alerts(orders + REFUNDS, AlertSettings(refunds=(3, 10), refund_share=0.4)) != []


def test_a_rule_that_is_off_gives_no_alert() -> None:
    assert alerts([event("r", i * MINUTE, "refund", 1.0) for i in range(5)], AlertSettings(refunds=None)) == []
