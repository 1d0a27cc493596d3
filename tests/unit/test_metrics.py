"""The vocabulary is what is shown, with labels that come and go, and what the dashboard and the alerts ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from monitoring.metrics import LATENCY, PREFIX, STATUSES, VOCABULARY, Gauges, Metrics
from streams.processing.alerts import level_changes, registry
from streams.processing.outputs.segment_changes import CAUSES
from streams.schemas.event_batch import REASONS

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "monitoring/grafana/dashboards/shoal.json").read_text())
COUNTS = {
    "batches": 3,
    "events": 100,
    "repeated": 2,
    "training": 5,
    "rows": 40,
    "row_bytes": 16_000,
    "recovered": 7,
    "learned": 4,
    "exits": 6,
    "ended": 1,
    "reject:bad_time": 1,
    "reject:currency": 2,
    "change:first": 9,
    "change:model": 1,
    "alert:spend:open": 1,
    "alert:spend:resolved": 1,
    "seek:clickstream": 1,
    "rekeyed:clickstream": 6,
    "lineage:split": 1,
}
TWO = Gauges(
    lag={("clickstream", 0): 12, ("purchases", 0): 0, ("clickstream", 3): 5},
    watermark={0: 1_700_000_000.25, 3: 5.0},
    sweep_lag={0: 300.0, 3: 0.0},
    users={0: 10, 3: 20},
    segment_users={0: 4, 7: 26},
    model_version={0: 2, 3: 1},
    newest_version=2,
    ready=True,
    pass_under_way={0: True, 3: False},
    learner=True,
    cache_rows=30,
    rekey_lag={"clickstream": 8},
    model_quality={"silhouette": 0.25},
)
ONE = Gauges({("clickstream", 0): 0}, {0: 6.0}, {0: 0.0}, {0: 10}, {7: 10}, {0: 2}, 2, False, {0: False}, False, 10)


def families(metrics: Metrics) -> dict[str, Metric]:
    body, kind = metrics.render()
    assert kind.startswith("text/plain; version=0.0.4")
    # the parser takes "_total" off a counter's name
    return {
        family.name + "_total" * (family.type == "counter"): family
        for family in text_string_to_metric_families(body.decode())
    }


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """(name, value of each label by the label's name) → value."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in families(metrics).values()
        for sample in family.samples
    }


@pytest.fixture
def full() -> Metrics:
    """Every metric has a sample."""
    metrics = Metrics()
    metrics.count(COUNTS)
    metrics.observe_flush(0.02)
    metrics.observe_latency(np.array([0.3]))
    metrics.gauges(lambda: TWO)
    return metrics


def test_counts_add_up_under_their_public_names(full: Metrics) -> None:
    full.count({"events": 11, "reject:bad_time": 1})
    found = values(full)
    assert found["shoal_events_total",] == 111
    assert found["shoal_rejects_total", "bad_time"] == 2
    assert found["shoal_rejects_total", "currency"] == 2
    assert found["shoal_alerts_total", "spend", "resolved"] == 1
    assert found["shoal_continuity_seeks_total", "clickstream"] == 1
    assert found["shoal_row_bytes_written_total",] == 16_000


def test_what_can_be_counted_is_at_0_before_it_is() -> None:
    """A series that first shows with a value has no rate: the first of a kind would be missed."""
    found = values(Metrics(registry.NAMES))
    assert found["shoal_learned_rows_total",] == 0
    assert {key[1] for key in found if key[0] == "shoal_rejects_total"} == set(REASONS) - {""}
    assert {key[1] for key in found if key[0] == "shoal_segment_changes_total"} == set(CAUSES)
    assert {key[1:] for key in found if key[0] == "shoal_alerts_total"} == set(product(registry.NAMES, STATUSES))
    assert level_changes.STATUSES == STATUSES


@pytest.mark.parametrize("key", ["nope", "shoal_events_total", "reject", "events:x", "alert:spend", "alert:a:b:c", ""])
def test_a_name_outside_the_vocabulary_is_a_bug(key: str) -> None:
    with pytest.raises(KeyError):
        Metrics().count({key: 1})


def test_the_histogram_is_prometheus_own_whatever_the_split() -> None:
    rng = np.random.default_rng(5)
    seconds = np.r_[rng.lognormal(-1, 2, 5_000), LATENCY, 0.0, 1e9]  # the bounds themselves: le is inclusive
    rng.shuffle(seconds)
    theirs = Histogram("shoal_event_latency_seconds", "-", buckets=LATENCY, registry=(registry := CollectorRegistry()))
    for value in seconds.tolist():
        theirs.observe(value)
    (expected,) = registry.collect()
    ours = Metrics()
    for part in (seconds[:0], seconds[:1], seconds[1:700], seconds[700:]):
        ours.observe_latency(part)
    found = values(ours)
    for sample in expected.samples:
        if not sample.name.endswith("_created"):
            assert found[sample.name, *sample.labels.values()] == pytest.approx(sample.value, rel=1e-12), sample


def test_a_flush_and_an_event_ahead_of_the_clock(full: Metrics) -> None:
    full.observe_flush(0.3)
    full.observe_latency(np.array([-200.0]))
    found = values(full)
    assert (found["shoal_flush_seconds_count",], found["shoal_flush_seconds_sum",]) == (2, pytest.approx(0.32))
    assert (found["shoal_flush_seconds_bucket", "0.25"], found["shoal_flush_seconds_bucket", "0.5"]) == (1, 2)
    assert found["shoal_event_latency_seconds_bucket", "0.01"] == 1
    assert found["shoal_event_latency_seconds_sum",] == pytest.approx(0.3)


def test_gauges_are_read_at_the_scrape_and_what_is_gone_vanishes() -> None:
    metrics, now = Metrics(), [TWO]
    assert not any(name[0] == "shoal_ready" for name in values(metrics))
    metrics.gauges(lambda: now[0])
    found = values(metrics)
    assert found["shoal_lag_records", "3", "clickstream"] == 5
    assert found["shoal_watermark_timestamp_seconds", "0"] == 1_700_000_000.25
    assert (found["shoal_users", "3"], found["shoal_segment_users", "7"]) == (20, 26)
    assert (found["shoal_model_version", "3"], found["shoal_model_version_newest",]) == (1, 2)
    assert (found["shoal_partitions_owned",], found["shoal_ready",], found["shoal_learner",]) == (2, 1, 1)
    assert (found["shoal_pass_under_way", "0"], found["shoal_pass_under_way", "3"]) == (1, 0)
    assert found["shoal_cache_rows",] == 30
    assert found["shoal_rekey_lag_records", "clickstream"] == 8
    assert found["shoal_model_quality", "silhouette"] == 0.25
    now[0] = ONE  # partition 3 was handed over
    found = values(metrics)
    shown = {family.name: family for family in families(metrics).values()}
    for family in shown.values():
        assert all(sample.labels.get("partition") in (None, "0") for sample in family.samples), family.name
    assert [sample.labels for sample in shown["shoal_segment_users"].samples] == [{"segment": "7"}]
    assert (found["shoal_partitions_owned",], found["shoal_ready",], found["shoal_learner",]) == (1, 0, 0)
    assert found["shoal_lag_records", "0", "clickstream"] == 0


def test_what_is_shown_is_the_vocabulary(full: Metrics) -> None:
    shown = families(full)
    ours = [name for name in shown if name.startswith(PREFIX)]
    assert ours == [spec.public for spec in VOCABULARY]
    assert {name.split("_")[0] for name in shown} == {"shoal", "process"}
    for spec in VOCABULARY:
        family = shown[spec.public]
        assert (family.documentation, family.type) == (spec.help, spec.kind)
        assert spec.help.endswith(".")
        assert family.samples, f"{spec.name}: no sample"
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(spec.labels), sample


def test_names_and_labels_keep_prometheus_habits() -> None:
    for spec in VOCABULARY:
        assert (spec.kind == "counter") == spec.name.endswith("_total") == bool(spec.key), spec.name
        assert (spec.kind == "histogram") == bool(spec.buckets), spec.name
        assert not re.search(r"milli|micro|(^|_)(ms|kb|mb|minutes|hours)(_|$)", spec.name), spec.name
        # few values each: never a user, an event, an offset
        few = {"topic", "partition", "segment", "reason", "cause", "rule", "status", "event", "figure"}
        assert set(spec.labels) <= few, spec.name
    assert "user" not in {label for spec in VOCABULARY for label in spec.labels}


# -- what is asked for is there -------------------------------------------------------------------------------------


def names(query: str) -> set[str]:
    """The series that a PromQL query asks for."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|on|without|ignoring)\s*\([^)]*\)', " ", query)
    return set(re.findall(r"\b[a-zA-Z_]\w*\b(?!\s*\()", bare)) - {"and", "or", "unless", "bool"}


def queries() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for group in yaml.safe_load((ROOT / "monitoring/alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def test_dashboard_and_alerts_ask_for_what_is_shown(full: Metrics) -> None:
    known: dict[str, set[str]] = {"up": set(), "ALERTS": set()}  # Prometheus' own
    for family in families(full).values():
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    asked: set[str] = set()
    for where, query in queries():
        found = names(query)
        assert found <= known.keys(), f"{where}: {found - known.keys()}"
        assert found, f"{where}: asks for nothing"
        labels = {"instance", "job", *(label for name in found for label in known[name])}
        grouped = {one.strip() for by in re.findall(r"\bby\s*\(([^)]*)\)", query) for one in by.split(",")}
        assert grouped <= labels, f"{where}: {grouped - labels}"
        asked |= found
    asked = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}
    assert {spec.public for spec in VOCABULARY} - asked == {"shoal_batches_total"}  # all others are looked at


def test_a_metric_that_a_page_names_exists() -> None:
    known = {spec.public + end for spec in VOCABULARY for end in ("", "_bucket", "_sum", "_count")}
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "monitoring/alerts.yml"]
    for page in pages:
        assert set(re.findall(r"\bshoal_[a-z_]+", page.read_text())) <= known, page


def test_the_dashboard_is_whole() -> None:
    source = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/datasources/prometheus.yml").read_text())
    uid = source["datasources"][0]["uid"]
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": uid}, panel["title"]
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)
