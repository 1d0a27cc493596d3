"""The rule `spend`, and the history of the shop's spends."""

from __future__ import annotations

import numpy as np

from streams.processing.alerts.registry import AlertSettings
from streams.processing.alerts.spend import BIN_EDGES, update_shop_history
from streams.processing.progress import Shop
from tests.support.alerting import DAY, HOUR, MINUTE, alerts, event

SETTINGS = AlertSettings(spend_least=100.0, spend_orders=50)
CROWD = [event(f"u{i}", i * MINUTE, "purchase", 20.0) for i in range(200)]


def test_spend_far_above_the_users_own_and_the_shops_history() -> None:
    rich = [event("rich", 5 * HOUR, "purchase", 5000.0)]
    assert alerts(rich, SETTINGS) == []  # no history of the shop yet
    (found,) = alerts(CROWD + rich, SETTINGS)
    assert (found["rule"], found["subject"]) == ("spend", "rich")
    assert found["evidence"] == {"spend_24h": 5000.0, "spend_30d": 5000.0}
    assert found["thresholds"]["least"] == 100.0
    assert 20.0 < found["thresholds"]["shop_spend_24h"] < 30.0


def test_who_always_spends_much_gives_no_alert() -> None:
    usual = [event("vip", d * DAY, "purchase", 5000.0) for d in range(-20, 0)]
    now = [event("vip", 5 * HOUR, "purchase", 5000.0)]
    assert [a["subject"] for a in alerts(usual + CROWD + now, SETTINGS)] == []


def test_an_hour_counts_in_the_history_once_it_is_over() -> None:
    shop = Shop()
    hour, spend = np.array([5, 5, 6, 6]), np.array([2000, 2000, 4000, 0])
    counts, line = update_shop_history(shop, hour, spend, np.array([True, False, True, True]))
    size = int(np.searchsorted(BIN_EDGES, 2000, "right") - 1)
    assert line.tolist() == [0, 0, 1, 1]
    assert counts[0].sum() == 0
    assert {i: int(counts[1, i]) for i in np.flatnonzero(counts[1])} == {size: 1}  # neither the view nor a spend of 0
    again, _ = update_shop_history(shop, np.array([6]), np.array([0]), np.array([False]))
    assert (again[0] == counts[1]).all()


def test_the_history_is_halved_at_the_edge_of_each_week() -> None:
    shop = Shop()
    update_shop_history(shop, np.full(8, 5), np.full(8, 2000), np.full(8, True))
    counts, _ = update_shop_history(shop, np.array([2 * 168 + 1]), np.array([0]), np.array([False]))
    assert counts.sum() == 2
    assert (
        update_shop_history(shop, np.array([], np.int64), np.array([], np.int64), np.array([], bool))[0].shape[0] == 0
    )
