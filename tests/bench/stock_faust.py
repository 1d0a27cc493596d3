"""(b) The same job the usual way in stock Faust, as its documentation advises: an agent, an event at a time, a Table.

Chosen in favour of Faust where there was a choice: a user's windows lie as panes in one plain dict, read and written
once an event (hopping windowed tables would write 12 to 168 entries for each measure); values are plain JSON
without models; merging the sources, alerts, late events, evidence in the changes and a transaction are left out; the
model learns where it stands. Faust's `-A` wants an app in a module: this is one, run by measure.child only.
"""

from __future__ import annotations

import math
import os
import time
from datetime import datetime
from typing import Any

import faust
from river import cluster, preprocessing

from tests.bench.measure import Figure, cpu_seconds, leave, memory_mib

HOUR, DAY = 12, 288  # in panes of five minutes
UNIT = 300_000  # ms
WINDOWS = ((1, 12), (HOUR, 24 * HOUR), (HOUR, 7 * DAY), (DAY, 30 * DAY))  # pane, length, as the worker has them
COUNTED = {
    "page_view": 0,
    "view": 1,
    "search": 2,
    "add_to_cart": 3,
    "remove_from_cart": 4,
    "checkout": 5,
}
ORDERS, ITEMS, SPEND, SESSIONS, MEASURES = 6, 7, 8, 9, 10
RATIOS = (
    ("views_per_page", (1,), (0, 1)),
    ("carts_per_view", (3,), (1,)),
    ("orders_per_cart", (ORDERS,), (3,)),
    ("orders_per_view", (ORDERS,), (1,)),
    ("removals_per_cart", (4,), (3,)),
    ("searches_per_page", (2,), (0, 1)),
    ("pages_per_session", (0, 1), (SESSIONS,)),
    ("spend_per_order", (SPEND,), (ORDERS,)),
)
PLAIN = (
    ("pages_1h", 0, (0, 1)),
    ("pages_7d", 2, (0, 1)),
    ("carts_7d", 2, (3,)),
    ("orders_30d", 3, (ORDERS,)),
    ("spend_30d", 3, (SPEND,)),
    ("sessions_30d", 3, (SESSIONS,)),
)
Row = dict[str, Any]

TOTAL, NAME = int(os.environ["BENCH_TOTAL"]), os.environ["BENCH_NAME"]
app = faust.App(
    NAME,
    broker=f"kafka://{os.environ['BENCH_BOOTSTRAP']}",
    store="rocksdb://",
    topic_partitions=4,
    topic_replication_factor=1,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
)
events = app.topic(*os.environ["BENCH_TOPICS"].split(","), key_type=str, key_serializer="raw", value_serializer="json")
changes = app.topic(os.environ["BENCH_CHANGES"], key_serializer="raw", value_serializer="json")
users = app.Table("users", default=dict, key_type=str, partitions=4, options={"driver": "rocksdict"})
scaler = preprocessing.StandardScaler()
kmeans = cluster.KMeans(n_clusters=8, halflife=0.02, seed=7)  # at River's 0.5 centres run about, and so do shoppers


def known(row: Row, name: str, ident: str | None, keep: int) -> bool:
    """Whether an id is among the last ones of its kind; remembered from now on."""
    recent = row.setdefault(name, [])
    if ident is None or ident in recent:
        return ident is not None
    recent.insert(0, ident)
    del recent[keep:]
    return False


def fold(row: Row, event: dict[str, Any]) -> bool:
    """Take an event into a user's row; False for a repeat."""
    if known(row, "events", event.get("event_id"), 16):
        return False
    at = int(datetime.fromisoformat(event["event_time"]).timestamp() * 1000)
    row["clock"] = max(at, row.get("clock", 0))
    pane = row.setdefault("panes", {}).setdefault(str(at // UNIT), [0] * MEASURES)
    kind, quantity = event["event_type"], event.get("quantity", 1)
    if kind in COUNTED:
        pane[COUNTED[kind]] += 1
    pane[SESSIONS] += not known(row, "sessions", event.get("session_id"), 8)
    if kind == "purchase":
        pane[ORDERS] += not known(row, "orders", event.get("transaction_id") or event.get("session_id"), 8)
        pane[ITEMS] += quantity
        pane[SPEND] += round(event.get("price", 0.0) * 100) * quantity
    elif kind == "refund":
        pane[SPEND] -= round(event.get("price", 0.0) * 100) * quantity
    row.setdefault("hours", [0] * 8)[at // 10_800_000 % 8] += 1
    return True


def windows(row: Row) -> list[list[int]]:
    """Sums over the four windows as of the row's clock; panes that need not be fine any more are merged or dropped."""
    now, panes = row["clock"] // UNIT, row["panes"]
    bounds = [now // pane * pane - length for pane, length in WINDOWS]
    sums = [[0] * MEASURES for _ in WINDOWS]
    for name, pane in list(panes.items()):
        start = int(name)
        if start < bounds[3]:
            del panes[name]
            continue
        for bound, total in zip(bounds, sums, strict=True):
            if start >= bound:
                for i, value in enumerate(pane):
                    if value:
                        total[i] += value
        if start < bounds[0] and start % HOUR:
            hour = panes.setdefault(str(start // HOUR * HOUR), [0] * MEASURES)
            hour[:] = [a + b for a, b in zip(hour, panes.pop(name), strict=True)]
    return sums


def features(row: Row) -> dict[str, float]:
    """The eighteen features that the worker assigns by."""
    sums = windows(row)
    week, hours, total = sums[2], row["hours"], sum(row["hours"])
    found = {
        name: math.log1p(max(0, sum(week[i] for i in above)) / (1 + sum(week[i] for i in below)))
        for name, above, below in RATIOS
    }
    for i, block in enumerate(("night", "morning", "afternoon", "evening")):
        found[f"share_{block}"] = (hours[2 * i] + hours[2 * i + 1]) / total
    for name, window, columns in PLAIN:
        found[name] = math.log1p(max(0, sum(sums[window][i] for i in columns)))
    return found


class Span:
    """From the first event to the last."""

    events = 0
    started = 0.0
    cpu = 0.0
    moved = 0

    def count(self) -> None:
        if not self.events:
            self.started, self.cpu = time.perf_counter(), cpu_seconds()
        self.events += 1
        if self.events > TOTAL:  # the first one started the clock
            seconds, cpu = time.perf_counter() - self.started, cpu_seconds() - self.cpu
            leave(Figure(TOTAL, seconds, cpu, memory_mib(), {"changes": self.moved}))
            os._exit(0)


span = Span()


@app.agent(events)
async def segment(stream: faust.StreamT[dict[str, Any]]) -> None:
    async for user, event in stream.items():
        span.count()
        row = users[user]
        if not fold(row, event):
            continue
        x = features(row)
        scaler.learn_one(x)
        scaled = scaler.transform_one(x)
        to = kmeans.learn_predict_one(scaled)
        if to != row.get("segment"):
            span.moved += 1
            row["seq"] = row.get("seq", 0) + 1
            change = {"user": user, "seq": row["seq"], "from": row.get("segment"), "to": to, "as_of": row["clock"]}
            await changes.send(key=user.encode(), value=change)
        row["segment"] = to
        users[user] = row
