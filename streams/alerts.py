"""Alerts on users: each rule gives every event a level; a change of level opens, updates or resolves an alert.

An exit can only bring a level down: what leaves the windows resolves what it opened, without a new event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from state import fold
from state.fold import HOUR_MS, Steps
from state.rows import Heads, Ints
from state.vocabulary import VOCABULARY
from streams.cloudevents import encoder, event_ids, rfc3339
from streams.progress import BINS, Shop

RULES = ("request_rate", "spend", "refund_burst", "unusual")
LEVELS = ("none", "warning", "critical")
_1H, _24H, _7D, _30D = range(4)
_REQUESTS = VOCABULARY.columns(VOCABULARY.requests)
_ORDERS, _SPEND, _REFUNDS = VOCABULARY.columns(("orders", "spend", "refunds"))
EDGES = np.array([int(2 ** (i / 4)) for i in range(BINS)], np.int64)  # lower edges of the spend bins
WEEK_HOURS = 168


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds, from the settings. Money in minor units; a rule that is off has None."""

    rate: tuple[int, int] | None = (600, 2000)  # events in an hour: warning, critical
    spend_factor: tuple[float, float] | None = (10.0, 30.0)  # times the user's own daily spend over 30 days
    spend_quantile: float = 0.99  # of the shop's spend_24h at purchases
    spend_least: int = 50_000
    spend_orders: int = 100  # purchases that the shop's history needs before the rule speaks
    refunds: tuple[int, int] | None = (3, 10)  # in 24 hours
    refund_share: float = 0.5  # of refunds and orders of 7 days together
    unusual: tuple[float, float] | None = None  # reconstruction error, in units that one in a hundred rows is above


def shop_thresholds(rules: Rules, shop: Shop, hour: Ints, spend: Ints, bought: NDArray[np.bool_]) -> Ints:
    """The shop's spend threshold as each event found it (minor units; a huge one while history is short).

    hour (n,): accounting hour of each event in applied order, never falling; spend (n,) its user's spend_24h;
    bought (n,): purchases. Folds the events into shop, in place; an hour counts once it is over.
    """
    out = np.full(len(hour), np.iinfo(np.int64).max)
    start = np.flatnonzero(np.r_[True, hour[1:] != hour[:-1]]) if len(hour) else hour
    for a, b in zip(start.tolist(), [*start.tolist()[1:], len(hour)], strict=True):
        now = int(hour[a])
        if now > shop.hour:
            weeks = now // WEEK_HOURS - shop.hour // WEEK_HOURS if shop.hour >= 0 else 0
            shop.closed = (np.add(shop.closed, shop.open, dtype=np.int64) >> min(weeks, 63)).tolist()
            shop.open = [0] * BINS
            shop.hour = now
        total = sum(shop.closed)
        if total >= rules.spend_orders:
            reach = np.searchsorted(np.cumsum(shop.closed), rules.spend_quantile * total)
            out[a:b] = EDGES[min(int(reach) + 1, BINS - 1)]
        paid = spend[a:b][bought[a:b] & (spend[a:b] > 0)]
        if len(paid):
            bins = np.bincount(np.searchsorted(EDGES, paid, "right") - 1, minlength=BINS)
            shop.open = (np.array(shop.open) + bins).tolist()
    return out


def levels(rules: Rules, steps: Steps, shop: Ints, error: NDArray[np.float64] | None = None) -> NDArray[np.uint8]:
    """Level of each rule at each step, (s, rules); shop: the shop's spend threshold as of each step; error: the
    encoder's, None where there is none."""
    out = np.zeros((len(steps.row), len(RULES)), np.uint8)
    windows = steps.windows
    if rules.rate:
        rate = windows[:, _1H, _REQUESTS].sum(1)
        out[:, 0] = (rate >= rules.rate[0]).astype(np.uint8) + (rate >= rules.rate[1])
    if rules.spend_factor:
        day = windows[:, _24H, _SPEND]
        own = (windows[:, _30D, _SPEND] - day) / 29.0
        # what the shop's threshold was when the alert opened is not asked again as windows pass
        high = (day >= rules.spend_least) & ((day > shop) | (steps.event == fold.EXIT))
        out[:, 1] = (high & (day > rules.spend_factor[0] * own)).astype(np.uint8) + (
            high & (own > 0) & (day > rules.spend_factor[1] * own)
        )
    if rules.refunds:
        burst, back = windows[:, _24H, _REFUNDS], windows[:, _7D, _REFUNDS]
        share = back >= rules.refund_share * (back + windows[:, _7D, _ORDERS])
        out[:, 2] = ((burst >= rules.refunds[0]) & share).astype(np.uint8) + ((burst >= rules.refunds[1]) & share)
    if rules.unusual and error is not None:
        out[:, 3] = (error >= rules.unusual[0]).astype(np.uint8) + (error >= rules.unusual[1])
    out[steps.event <= fold.FORGOTTEN] = 0
    return out


@dataclass(frozen=True, slots=True)
class Alert:
    row: int
    rule: int
    level: int
    status: str  # open, update, resolved
    seq: int
    birth: int
    since: int  # ms: when it opened
    now: int
    step: int


def find(heads: Heads, steps: Steps, level: NDArray[np.uint8]) -> list[Alert]:
    """Changes of level in step order; swaps are not judged. Updates the alert fields of heads, in place."""
    at = np.flatnonzero(steps.event != fold.SWAP)
    if not len(at):
        return []
    row = steps.row[at]
    first = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    last = np.r_[first[1:], len(at)] - 1
    judged = level[at]
    exits = steps.event[at] == fold.EXIT
    held = heads["alert"][row, : len(RULES)]
    for i in np.flatnonzero(exits & judged.any(1)).tolist():  # few: quiet users' levels are 0
        before = held[i] if i == 0 or row[i - 1] != row[i] else judged[i - 1]
        judged[i] = np.minimum(judged[i], before)
    previous = np.empty_like(judged)
    previous[1:] = judged[:-1]
    previous[first] = held[first]
    found = []
    for i, rule in np.argwhere(judged != previous).tolist():
        r, now = int(row[i]), int(steps.now[at[i]])
        heads["alert_seq"][r] += 1
        if previous[i, rule] == 0:
            status = "open"
            heads["alert_since"][r, rule] = now
        else:
            status = "update" if judged[i, rule] else "resolved"
        seq, birth, since = int(heads["alert_seq"][r]), int(heads["birth"][r]), int(heads["alert_since"][r, rule])
        found.append(Alert(r, rule, int(judged[i, rule]), status, seq, birth, since, now, int(at[i])))
    heads["alert"][row[first], : len(RULES)] = judged[last]
    return found


def documents(
    found: Sequence[Alert], users: Sequence[bytes], steps: Steps, rules: Rules, shop: Ints,
    error: NDArray[np.float64] | None = None,
) -> list[tuple[bytes, bytes]]:
    """(key, alerts record) of each alert, with its evidence and thresholds."""
    if not found:
        return []
    keys = [users[alert.row] for alert in found]
    idents = event_ids(keys, [alert.birth for alert in found], [alert.seq for alert in found], "alert")
    since, last = (rfc3339(np.array([getattr(alert, name) for alert in found])) for name in ("since", "now"))
    event, out = encoder("alert"), []
    for alert, user, ident, first_seen, last_seen in zip(found, keys, idents, since, last, strict=True):
        far = 0.0 if error is None else float(error[alert.step])
        evidence, thresholds = _evidence(alert, steps.windows[alert.step], rules, int(shop[alert.step]), far)
        subject = user.decode()
        data = {
            "rule": RULES[alert.rule],
            "severity": LEVELS[alert.level],
            "status": alert.status,
            "subject": subject,
            "evidence": evidence,
            "thresholds": thresholds,
            "first_seen": first_seen,
            "last_seen": last_seen,
        }
        out.append((user, event(ident, subject, last_seen, data)))
    return out


def _evidence(
    alert: Alert, window: Ints, rules: Rules, limit: int, error: float
) -> tuple[dict[str, object], dict[str, object]]:
    """What was found, windows (4, measures) as of the step, and the thresholds; money in major units."""
    if alert.rule == 0:
        return {"events_1h": int(window[_1H, _REQUESTS].sum())}, {"events_1h": rules.rate}
    if alert.rule == 1:
        return {name: int(window[w, _SPEND]) / 100 for name, w in (("spend_24h", _24H), ("spend_30d", _30D))}, {
            "times_own_daily_spend": rules.spend_factor, "least": rules.spend_least / 100,
            "shop_spend_24h": None if limit == np.iinfo(np.int64).max else limit / 100,
        }  # fmt: skip
    if alert.rule == 3:
        return {"reconstruction_error": round(error, 6)}, {"reconstruction_error": rules.unusual}
    return (
        {"refunds_24h": int(window[_24H, _REFUNDS]), "orders_7d": int(window[_7D, _ORDERS])},
        {"refunds_24h": rules.refunds, "share_7d": rules.refund_share},
    )


def hour_of(watermark: Ints) -> Ints:
    """Accounting hour: that of the watermark before the event, so that it never goes back."""
    return np.maximum(watermark, 0) // HOUR_MS
