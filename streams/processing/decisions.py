"""What follows from the steps of users' histories: changes of segment and of alert level, and training rows.

Each function adds to an Outcome what it decides, and changes the heads of the rows in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from online_models.assignment import assign
from online_models.training_rows import FIRST_DAY_ROW, SAMPLE_ROW
from online_models.version import Version
from state import features, history, rows, windows
from state.layout import Ints
from state.vocabulary import VOCABULARY
from streams.processing.alerts import level_changes
from streams.processing.alerts.level_changes import Alert
from streams.processing.alerts.rule import JudgedSteps
from streams.processing.alerts.spend import ShopHistory, update_shop_history
from streams.processing.outputs import segment_changes, training_records
from streams.processing.partition_config import PartitionConfig
from streams.processing.progress import Progress
from streams.schemas.event_batch import EventBatch


@dataclass(slots=True)
class Outcome:
    """What a batch, a sweep, a pass or an erasure leads to."""

    written: dict[bytes, bytes | None] = field(default_factory=dict)  # rows by user; None: a tombstone
    index: dict[bytes, bytes | None] = field(default_factory=dict)  # entries of the expiry index; None: deleted
    changes: segment_changes.Changes = segment_changes.NONE
    alerts: list[Alert] = field(default_factory=list)
    change_records: list[tuple[bytes, bytes, bytes | None]] = field(default_factory=list)  # (key, change, segment)
    alert_records: list[tuple[bytes, bytes]] = field(default_factory=list)  # (key, value)
    training_records: list[tuple[bytes, bytes]] = field(default_factory=list)  # (key, value)
    event_times: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # ms: of the events behind changes
    repeated: int = 0  # events left out
    exits: int = 0
    ended: int = 0  # users forgotten or erased


@dataclass(frozen=True, slots=True)
class AppliedEvents:
    """The events of a batch, in the applied order."""

    batch: EventBatch
    watermark: Ints  # ms: before the record of each event

    def accounting_hour(self, event: Ints) -> Ints:
        """The hour of the watermark before each event, so that it never goes back in applied order."""
        return np.maximum(self.watermark[event], 0) // history.HOUR_MS


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The steps of u rows, and what they are judged by."""

    users: Sequence[bytes]  # (u,)
    heads: rows.Heads  # (u,) changed in place by each decision
    steps: history.Steps  # s steps, sorted by row and time
    features: NDArray[np.float64]  # (s, width) raw
    progress: Progress
    version: Version | None
    config: PartitionConfig
    events: AppliedEvents | None = None  # None: none of the steps is an event


def change_segments(evaluation: Evaluation, outcome: Outcome) -> None:
    """Segment changes of all steps."""
    steps, version, applied = evaluation.steps, evaluation.version, evaluation.events
    if version is None or not len(steps.row):
        return
    assigned = assign(version, evaluation.features, steps.row, evaluation.heads["segment"].astype(np.int64))
    outcome.changes = changes = segment_changes.detect(evaluation.heads, steps, assigned, version.number)
    causes: list[segment_changes.SourceRecord | None] = [None] * len(changes)
    if applied is not None:
        event = steps.event[changes.step]
        by_event = np.flatnonzero(event >= 0)
        index = event[by_event]
        outcome.event_times = applied.batch.time[index]
        record = applied.batch.record[index]
        topics = [evaluation.config.sources[source] for source in applied.batch.source[record].tolist()]
        offsets = applied.batch.offset[record].tolist()
        by_event_causes = map(segment_changes.SourceRecord, topics, repeat(evaluation.config.partition), offsets)
        for change, cause in zip(by_event.tolist(), by_event_causes, strict=True):
            causes[change] = cause
    outcome.change_records = segment_changes.change_records(changes, evaluation.users, assigned, version, causes)


def change_alerts(evaluation: Evaluation, outcome: Outcome) -> None:
    """Alerts of all steps."""
    steps, version, rules = evaluation.steps, evaluation.version, evaluation.config.alerts
    encoder = None if version is None else version.encoder
    judged = JudgedSteps(steps.windows, steps.event, _shop_history(evaluation), evaluation.features, encoder)
    outcome.alerts = level_changes.detect(evaluation.heads, steps, level_changes.judge(rules, judged), rules)
    outcome.alert_records = level_changes.alert_records(outcome.alerts, evaluation.users, judged)


def _shop_history(evaluation: Evaluation) -> ShopHistory:
    """The shop's spends as each step finds them; counts the events in the partition's history, in place."""
    steps, applied = evaluation.steps, evaluation.events
    if applied is None:
        return ShopHistory.none(len(steps.row))
    step_of_event = np.full(len(applied.batch.time), -1)
    is_event = steps.event >= 0
    step_of_event[steps.event[is_event]] = np.flatnonzero(is_event)
    event = np.flatnonzero(step_of_event >= 0)  # in the applied order, without the repeats
    step = step_of_event[event]
    spend = steps.windows[step, windows.WINDOWS.index("24h"), VOCABULARY.column("spend")]
    bought = applied.batch.type[event] == VOCABULARY.code("purchase")
    hour = applied.accounting_hour(event)
    counts, line_of_event = update_shop_history(evaluation.progress.shop, hour, spend, bought)
    line = np.full(len(steps.row), -1)
    line[step] = line_of_event
    return ShopHistory(counts, line)


def send_training_rows(evaluation: Evaluation, applied: AppliedEvents, outcome: Outcome) -> None:
    """Training rows of a batch; marks the new users among them as followed, in place."""
    steps, heads, config = evaluation.steps, evaluation.heads, evaluation.config
    step, kind, user_hash = training_records.choose_steps(steps, heads["birth"][steps.row])
    order = np.argsort(steps.event[step])  # the applied one
    step, kind, user_hash = step[order], kind[order], user_hash[order]
    hour = applied.accounting_hour(steps.event[step])
    sent = training_records.sample(evaluation.progress.shop, hour, user_hash, config.training_hourly)
    step, kind = step[sent], kind[sent]
    row = steps.row[step]
    day_end = training_records.day_end(heads["born"][row].astype(np.int64))
    heads["followed"][row[(kind == SAMPLE_ROW) & (steps.now[step] < day_end)]] = 1
    _add_training_records(evaluation, outcome, step, kind)
    send_first_day_rows(evaluation, outcome)


def send_first_day_rows(evaluation: Evaluation, outcome: Outcome) -> Ints:
    """Training rows of followed users whose first day ends; returns their steps. The users are followed no more, in
    place: a sweep that evaluates the same step again sends no second row."""
    heads, steps = evaluation.heads, evaluation.steps
    day_ends = training_records.first_day_ends(heads, steps)
    _add_training_records(evaluation, outcome, day_ends, np.full(len(day_ends), FIRST_DAY_ROW, np.int8))
    heads["followed"][steps.row[day_ends]] = 0
    return day_ends


def _add_training_records(evaluation: Evaluation, outcome: Outcome, step: Ints, kind: NDArray[np.int8]) -> None:
    """Encode steps (n,), each as a training row of a kind (n,), under pseudonyms."""
    if not len(step):
        return
    row = evaluation.steps.row[step]
    born = evaluation.heads["born"][row].astype(np.int64)
    columns = training_records.layout(features.NAMES)
    values = training_records.encode(kind, evaluation.steps, step, born, columns, evaluation.features)
    users = [evaluation.users[i] for i in row.tolist()]
    keys = training_records.pseudonyms(users, evaluation.config.training_key)
    outcome.training_records += zip(keys, values, strict=True)
