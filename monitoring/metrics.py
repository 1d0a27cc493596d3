"""The metrics vocabulary, and the exporter of a worker's numbers in Prometheus' text format.

The core counts under its own names ("reject:bad_time"); here they get their public ones. No user id, ever, in a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from monitoring.reject_reasons import REJECT_REASONS

PREFIX = "shoal_"
Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric: its name without the prefix, in base units (seconds, bytes), and what it says."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: Labels = ()
    key: str = ""  # of a counter: the core's name, before the labels' values
    known: tuple[Labels, ...] = ()  # of a counter: labels shown at 0 from the start, or a rate misses the first ones
    buckets: tuple[float, ...] = ()  # of a histogram: upper bounds, inclusive

    @property
    def public(self) -> str:
        return PREFIX + self.name


# From a fraction of state.flush_interval (0.25 s) up: below a second an event mostly waits for its flush.
LATENCY = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# Up to the default state.transaction_timeout, beyond which the broker aborts.
FLUSH = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)

# The core's words, which this package may not import; a test compares them. Alert rules are told by the worker.
CAUSES = ("first", "behaviour", "late", "model", "expiry", "forgotten", "erased")
LINEAGE = ("born", "split", "merged", "retired", "restored")
STATUSES = ("open", "update", "resolved")

VOCABULARY: tuple[Spec, ...] = (
    # What came in. A repeated event and a reject are events too: their shares are of events_total.
    Spec("counter", "batches_total", "Fetches of a source's partition that were taken.", key="batches"),
    Spec("counter", "events_total", "Source records applied, repeated ones and rejects included.", key="events"),
    Spec("counter", "repeated_events_total", "Events left out because their id was seen before.", key="repeated"),
    Spec(
        "counter",
        "rejects_total",
        "Source records sent to dead-letters, by reason.",
        ("reason",),
        "reject",
        tuple((reason,) for reason in REJECT_REASONS),
    ),
    # What came out.
    Spec(
        "counter",
        "segment_changes_total",
        "Segment changes, by cause.",
        ("cause",),
        "change",
        tuple((cause,) for cause in CAUSES),
    ),
    Spec(
        "counter",
        "alerts_total",
        "Alert records, by rule and status (open, update, resolved).",
        ("rule", "status"),
        "alert",
    ),
    Spec("counter", "exits_total", "Times that a user was judged because a pane left a window.", key="exits"),
    Spec("counter", "ended_users_total", "Users forgotten or erased.", key="ended"),
    Spec("counter", "training_rows_total", "Feature rows sent to training-rows.", key="training"),
    Spec("counter", "rows_written_total", "User rows sent to the state changelog.", key="rows"),
    Spec("counter", "row_bytes_written_total", "Bytes of the user rows sent to the state changelog.", key="row_bytes"),
    # The shell.
    Spec(
        "counter",
        "continuity_seeks_total",
        "Times a topic was read again because a fetch left a hole.",
        ("topic",),
        "seek",
    ),
    Spec(
        "counter",
        "rekeyed_records_total",
        "Records of a source's raw topic that this worker's re-keyer sent on under their user, or rejected.",
        ("topic",),
        "rekeyed",
    ),
    Spec("counter", "recovered_records_total", "Changelog records replayed in recovery.", key="recovered"),
    Spec("counter", "learned_rows_total", "Training rows that this worker's learner took.", key="learned"),
    Spec(
        "counter",
        "segment_lineage_total",
        "Changes of the set of segments that this worker's learner published.",
        ("event",),
        "lineage",
        tuple((event,) for event in LINEAGE),
    ),
    Spec(
        "histogram",
        "flush_seconds",
        "Time of a partition's flush: its transaction and its RocksDB write.",
        buckets=FLUSH,
    ),
    Spec(
        "histogram",
        "event_latency_seconds",
        "From an event's time to the commit of the segment change that it caused; an event ahead of the clock counts "
        "as 0. A replay of old data falls into the last bucket.",
        buckets=LATENCY,
    ),
    # As things stand when asked. A partition's series is shown by its owner alone, and goes with the partition.
    Spec(
        "gauge",
        "lag_records",
        "Records of a source's partition between what was applied and the log's end.",
        ("topic", "partition"),
    ),
    Spec("gauge", "watermark_timestamp_seconds", "Event time that a partition has reached, Unix time.", ("partition",)),
    Spec(
        "gauge",
        "sweep_lag_seconds",
        "Event time between the watermark and what is swept: how late exits are.",
        ("partition",),
    ),
    Spec("gauge", "users", "Users of a partition that have a row.", ("partition",)),
    Spec("gauge", "segment_users", "Users in a segment, over this worker's partitions.", ("segment",)),
    Spec("gauge", "model_version", "Model version that a partition assigns with; 0 before the first.", ("partition",)),
    Spec("gauge", "model_version_newest", "Newest version read from the models topic; 0 before the first."),
    Spec("gauge", "model_quality", "Figures of the newest version, on rows that it has not learned from.", ("figure",)),
    Spec("gauge", "partitions_owned", "Partitions that this worker owns."),
    Spec("gauge", "ready", "1 once recovery is over and the worker serves its partitions."),
    Spec("gauge", "recovery_left_records", "Changelog records that this worker's recovery has still to read."),
    Spec("gauge", "recovery_seconds", "From the last assignment to ready; 0 before the first."),
    Spec(
        "gauge", "pass_under_way", "1 while a partition's users are judged again under a new version.", ("partition",)
    ),
    Spec("gauge", "learner", "1 on the worker that owns training-rows."),
    Spec(
        "gauge", "rekey_lag_records", "Records of a source's raw topic not re-keyed yet, from its re-keyer.", ("topic",)
    ),
    Spec("gauge", "cache_rows", "User rows in the caches over RocksDB."),
)
_COUNTED = {spec.key: spec for spec in VOCABULARY if spec.kind == "counter"}


@dataclass(frozen=True, slots=True)
class Gauges:
    """A worker as it stands, by partition but for lag (topic, partition) and segment_users (segment)."""

    lag: dict[tuple[str, int], int]
    watermark: dict[int, float]  # seconds, Unix time
    sweep_lag: dict[int, float]  # seconds of event time
    users: dict[int, int]  # of every partition owned
    segment_users: dict[int, int]
    model_version: dict[int, int]
    newest_version: int
    ready: bool
    pass_under_way: dict[int, bool]
    learner: bool
    cache_rows: int
    rekey_lag: dict[str, int] = field(default_factory=dict)  # by source topic, of those that this worker re-keys
    recovery_left: int = 0
    recovery_seconds: float = 0.0
    model_quality: dict[str, float] = field(default_factory=dict)  # by figure, of the newest version


class Metrics:
    """A worker's metrics, in a registry of their own. All calls come from one thread."""

    def __init__(self, alert_rules: Iterable[str] = ()) -> None:
        """alert_rules: names of the rules, shown at 0 from the start."""
        self._counts: dict[str, dict[Labels, int]] = {
            spec.name: dict.fromkeys(spec.known if spec.labels else [()], 0) for spec in _COUNTED.values()
        }
        self._counts["alerts_total"] = dict.fromkeys(product(alert_rules, STATUSES), 0)
        self._bins = {spec.name: _Bins(spec.buckets) for spec in VOCABULARY if spec.kind == "histogram"}
        self._read: Callable[[], Gauges] | None = None
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)  # memory, processor time, open files

    def count(self, counts: Mapping[str, int]) -> None:
        """Add what was counted since the last call. KeyError for a name outside the vocabulary: a bug."""
        for key, by in counts.items():
            name, *labels = key.split(":")
            spec = _COUNTED[name]
            if len(labels) != len(spec.labels):
                raise KeyError(key)
            series = self._counts[spec.name]
            series[tuple(labels)] = series.get(tuple(labels), 0) + by

    def totals(self) -> dict[str, int]:
        """What was counted so far, under the core's names; nothing that is 0."""
        return {
            ":".join((spec.key, *labels)): value
            for spec in _COUNTED.values()
            for labels, value in self._counts[spec.name].items()
            if value
        }

    def observe_flush(self, seconds: float) -> None:
        self._bins["flush_seconds"].add([seconds])

    def observe_latency(self, seconds: ArrayLike) -> None:
        """(n,) seconds, n of any size."""
        self._bins["event_latency_seconds"].add(seconds)

    def gauges(self, read: Callable[[], Gauges]) -> None:
        """What to call at each scrape; before that there are no gauges."""
        self._read = read

    def render(self) -> tuple[bytes, str]:
        """The page that Prometheus scrapes: its body and content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """The families in the order of the vocabulary, built anew: what is gone is not shown again."""
        gauges = {} if self._read is None else _series(self._read())
        for spec in VOCABULARY:
            if spec.kind == "histogram":
                yield self._bins[spec.name].family(spec)
                continue
            gauge = spec.kind == "gauge"
            family = (GaugeMetricFamily if gauge else CounterMetricFamily)(spec.public, spec.help, labels=spec.labels)
            series = gauges.get(spec.name, {}) if gauge else self._counts[spec.name]
            for labels, value in sorted(series.items()):
                family.add_metric(labels, value)
            yield family


class _Bins:
    """A histogram that takes arrays: prometheus_client's own takes one value a call."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = np.array(bounds)
        self._names = [*map(str, bounds), "+Inf"]
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0

    def add(self, seconds: ArrayLike) -> None:
        values = np.maximum(np.asarray(seconds, np.float64), 0.0)  # a sum that falls would look like a restart
        self._counts += np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        self._sum += float(values.sum())

    def family(self, spec: Spec) -> HistogramMetricFamily:
        upto = np.cumsum(self._counts).tolist()
        return HistogramMetricFamily(spec.public, spec.help, list(zip(self._names, upto, strict=True)), self._sum)


def _series(now: Gauges) -> dict[str, Mapping[Labels, float]]:
    """Gauge → values by labels."""

    def each(values: Mapping[int, float]) -> dict[Labels, float]:
        return {(str(number),): float(value) for number, value in values.items()}

    return {
        "lag_records": {(topic, str(number)): float(lag) for (topic, number), lag in now.lag.items()},
        "watermark_timestamp_seconds": each(now.watermark),
        "sweep_lag_seconds": each(now.sweep_lag),
        "users": each(now.users),
        "segment_users": each(now.segment_users),
        "model_version": each(now.model_version),
        "model_version_newest": {(): now.newest_version},
        "partitions_owned": {(): len(now.users)},
        "ready": {(): now.ready},
        "pass_under_way": each(now.pass_under_way),
        "learner": {(): now.learner},
        "cache_rows": {(): now.cache_rows},
        "recovery_left_records": {(): now.recovery_left},
        "recovery_seconds": {(): now.recovery_seconds},
        "model_quality": {(figure,): value for figure, value in now.model_quality.items()},
        "rekey_lag_records": {(topic,): float(lag) for topic, lag in now.rekey_lag.items()},
    }
