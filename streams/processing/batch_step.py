"""One batch of one partition: rows and events in, new rows and decisions out. No IO, no clock, no chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from online_models.assignment import assign
from online_models.training_rows import FIRST_DAY_ROW, SAMPLE_ROW
from online_models.version import Version
from state import expiry_index, features, fold, recent_ids, rows, windows
from state.rows import Ints
from state.vocabulary import VOCABULARY
from streams.processing import alerts, segment_changes, training_records
from streams.processing.progress import Progress
from streams.schemas.event_batch import REASONS, EventBatch

WRONG_PARTITION = REASONS.index("wrong_partition")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a partition's decisions depend on beside rows, events and model."""

    lateness: int = 300_000  # ms
    timezone: str = "UTC"
    alerts: alerts.Rules = field(default_factory=alerts.Rules)
    training_key: bytes = b"shoal"
    training_hourly: int = 5_000  # rows an hour of event time and partition
    sources: tuple[str, ...] = ("clickstream", "purchases")  # topic names, for evidence
    partition: int = 0
    placed: Callable[[list[bytes]], Ints] | None = None  # partitions of keys; None: not checked
    forget: int = 400 * windows.DAY  # units without an event after which a user is forgotten


@dataclass(slots=True)
class Outcome:
    """What one batch or sweep brings."""

    written: dict[bytes, bytes | None] = field(default_factory=dict)  # None: a tombstone
    index: dict[bytes, bytes | None] = field(default_factory=dict)  # entries of the expiry index, None: gone
    changes: segment_changes.Changes = segment_changes.NONE
    alerts: list[alerts.Alert] = field(default_factory=list)
    change_records: list[tuple[bytes, bytes, bytes | None]] = field(default_factory=list)
    alert_records: list[tuple[bytes, bytes]] = field(default_factory=list)
    training_records: list[tuple[bytes, bytes]] = field(default_factory=list)
    caused: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # ms: times of the events behind changes
    repeated: int = 0
    ended: int = 0
    exits: int = 0


_NO = np.zeros(0, np.int64)
_NO_EVENTS = fold.Events(
    _NO,
    _NO,
    _NO,
    _NO.astype(np.int8),
    _NO,
    _NO,
    _NO.astype(np.uint64),
    _NO.astype(np.uint64),
    _NO.astype(np.uint32),
    _NO.astype(np.uint32),
    np.zeros((0, 3), np.uint32),
    _NO,
)


def floor_unit(ms: Ints | int) -> Ints:
    return np.asarray(ms) // windows.UNIT * windows.UNIT


def step(
    users: Sequence[bytes],
    row_of: Ints,
    old: Sequence[bytes | None],
    batch: EventBatch,
    progress: Progress,
    version: Version | None,
    rule: Rule,
) -> Outcome:
    """Apply a batch of n records and m events in its order to the rows of its users.

    users (u,): distinct ids; row_of (n,): user of each record, -1 for a rejected one; old (u,): their rows, None
    where new; batch.reason gains the rejects found here; progress is changed in place.
    """
    out = Outcome()
    heads, panes, owner = rows.join(old)
    n = len(batch.key)
    ordinal = progress.ordinal + np.arange(n)
    top = np.maximum.accumulate(np.r_[progress.top, batch.key])
    watermark = np.maximum(progress.watermark, floor_unit(top[:-1] - rule.lateness))
    progress.ordinal += n
    progress.top = int(top[-1])
    progress.watermark = max(progress.watermark, int(floor_unit(progress.top - rule.lateness)))

    if rule.placed is not None:
        strange = np.flatnonzero(heads["birth"] < 0)
        misplaced = strange[rule.placed([users[i] for i in strange.tolist()]) != rule.partition]
        if len(misplaced):
            wrong = np.isin(row_of, misplaced)
            batch.reason[wrong] = WRONG_PARTITION
            row_of = np.where(wrong, -1, row_of)
    # from here on by event; each is judged by the watermark before its record
    row_of, ordinal, watermark = row_of[batch.record], ordinal[batch.record], watermark[batch.record]
    live = np.flatnonzero(row_of >= 0)
    at = live[np.argsort(row_of[live], kind="stable")]
    new = recent_ids.first_sights(row_of[at], batch.event_id[at], heads["ids"])
    keep = new | (batch.event_id[at] == 0)
    out.repeated = int(len(at) - keep.sum())
    at = at[keep]
    if not len(at):
        return out
    row = row_of[at]
    first = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    born = row[first][heads["birth"][row[first]] < 0]
    at_birth = at[first[np.isin(row[first], born)]]
    heads["birth"][born] = ordinal[at_birth]
    heads["born"][born] = batch.time[at_birth] // windows.UNIT
    progress.users += len(born)
    events = fold.Events(
        row,
        batch.time[at],
        watermark[at],
        batch.type[at],
        batch.amount[at],
        batch.quantity[at],
        batch.session[at],
        batch.order[at],
        batch.category[at],
        batch.brand[at],
        np.stack((batch.country[at], batch.region[at], batch.city[at]), 1),
        local_block(batch.time[at], rule.timezone),
    )
    swap = np.zeros(len(heads), bool)
    if version is not None:
        swap[row[first]] = heads["model"][row[first]] != version.number
        swap[born] = False
    was = _due(heads, panes, owner, np.maximum(heads["clock"], progress.swept), rule)
    was[heads["birth"] < 0] = was[born] = expiry_index.NONE
    was_swept = was
    if progress.sweeping:
        was_swept = _due(heads, panes, owner, np.maximum(heads["clock"], progress.sweeping), rule)
        was_swept[was == expiry_index.NONE] = expiry_index.NONE
    asked = fold.Asked.by_events(swap, progress.mark, progress.swept)
    steps, panes, owner = fold.fold(heads, panes, owner, events, asked)
    raw = features.raw(steps.windows, steps.hours)
    out.exits = int(np.count_nonzero(steps.event == fold.EXIT))
    _decide(out, users, heads, steps, raw, version, rule, batch, at)
    _alert(out, users, heads, steps, raw, progress, version, rule, batch, at, watermark)
    _train(out, users, heads, steps, raw, at, watermark, progress, rule)
    cut, then = rows.cut(heads, panes, owner), _due(heads, panes, owner, heads["clock"], rule)
    touched = row[first]
    out.written = {users[i]: cut[i] for i in touched.tolist()}
    keys = [users[i] for i in touched.tolist()]
    if progress.sweeping:  # the sweep may have been here and moved the entry
        out.index = expiry_index.moved(keys, was_swept[touched], then[touched])
    out.index |= expiry_index.moved(keys, was[touched], then[touched])
    return out


def ending(row_of: Ints, old: Sequence[bytes | None], batch: EventBatch, progress: Progress, rule: Rule) -> int | None:
    """The first record whose user may have to be forgotten before it; None for nearly every batch.

    The answer is sure where it is 0: what precedes a record decides, and may be repeats. No user is forgotten between
    two events of a record: the first one decides.
    """
    if not len(batch.record):
        return None
    times = [None if row is None else (rows.last_of(row), rows.clock_of(row)) for row in old]
    known = [last for last, _ in filter(None, times)]
    top = np.maximum.accumulate(np.r_[progress.top, batch.key])
    watermark = np.maximum(progress.watermark, floor_unit(top - rule.lateness))
    soonest = min(min(known, default=1 << 62), int(batch.time.min()))
    high = max(int(batch.time.max()), int(watermark[-1]))
    if high // windows.UNIT < expiry_index.forgotten(soonest, soonest, rule.forget):
        return None
    judged = np.maximum(batch.time, watermark[:-1][batch.record])
    is_first = np.r_[True, batch.record[1:] != batch.record[:-1]]
    for i, record in enumerate(batch.record.tolist()):
        row, time, now = int(row_of[record]), int(batch.time[i]), int(judged[i])
        before = times[row]
        if before is None:
            times[row] = time, now
            continue
        last, clock = before
        if is_first[i] and now // windows.UNIT >= expiry_index.forgotten(last, clock, rule.forget):
            return int(record)
        if not batch.event_id[i]:  # others may be repeats
            times[row] = max(last, time), max(clock, now)
    return None


def bring(
    users: Sequence[bytes],
    old: Sequence[bytes],
    until: int,
    progress: Progress,
    version: Version | None,
    rule: Rule,
    *,
    erase: bool = False,
) -> Outcome:
    """Bring rows up to a time (ms, an edge of a pane), without an event: what a sweep, the pass after a swap and an
    erasure ask. Rows in which nothing but the clock would change are not written; a user who is forgotten by then,
    or erased, gets a tombstone. The index is brought up to date but for the entries that the caller came by."""
    out = Outcome()
    heads, panes, owner = rows.join(old)
    swap = np.zeros(len(heads), bool) if version is None else heads["model"] != version.number
    if erase:
        end = np.maximum(np.maximum(heads["clock"], progress.mark), until)
        upto = end
    else:
        end = expiry_index.forgotten(heads["last"], heads["clock"], rule.forget) * windows.UNIT
        upto = np.minimum(end, until)
        end = np.where(end <= until, end, rows.NEVER)
    asked = fold.Asked(swap, progress.mark, progress.swept, upto, end, fold.ERASED if erase else fold.FORGOTTEN)
    steps, _, _ = fold.fold(heads, panes, owner, _NO_EVENTS, asked)
    raw = features.raw(steps.windows, steps.hours)
    _decide(out, users, heads, steps, raw, version, rule)
    _alert(out, users, heads, steps, raw, progress, version, rule)
    days = _teach_days(out, users, heads, steps, raw, rule)
    out.exits = int(np.count_nonzero(steps.event == fold.EXIT))
    said = np.concatenate((out.changes.step, np.array([alert.step for alert in out.alerts], np.int64), days))
    moved = np.zeros(len(heads), bool)
    moved[steps.row[said]] = True
    np.maximum.at(heads["clock"], steps.row[said], steps.now[said])
    ended = np.flatnonzero(end != rows.NEVER)
    if until > progress.swept:
        then = _due(heads, panes, owner, np.maximum(heads["clock"], until), rule)
        then[ended] = expiry_index.NONE
        out.index = expiry_index.moved(users, np.zeros(len(users), np.int64), then)
    if moved.any():
        whole_row = owner
        owner, start, kept = windows.settle(
            whole_row, panes["start"].astype(np.int64), rows.values(panes), heads["clock"][whole_row] // windows.UNIT
        )
        cut = rows.cut(heads, rows.pack(start, kept), owner)
        out.written = {users[i]: cut[i] for i in np.flatnonzero(moved).tolist()}
    out.written |= dict.fromkeys(users[i] for i in ended.tolist())
    out.ended = len(ended)
    progress.users -= len(ended)
    return out


def _due(heads: rows.Heads, panes: rows.Panes, owner: Ints, after: Ints, rule: Rule) -> Ints:
    """Next due edge of rows decided up to `after` (ms)."""
    return expiry_index.next_due(owner, panes["start"].astype(np.int64), after, heads["last"], rule.forget)


def _decide(
    out: Outcome,
    users: Sequence[bytes],
    heads: rows.Heads,
    steps: fold.Steps,
    raw: NDArray[np.float64],
    version: Version | None,
    rule: Rule,
    batch: EventBatch | None = None,
    at: Ints | None = None,
) -> None:
    """Segment changes of all steps; at (events,) says which event of the batch each is."""
    if version is None or not len(steps.row):
        return
    assigned = assign(version, raw, steps.row, heads["segment"].astype(np.int64))
    found = out.changes = segment_changes.find(heads, steps, assigned, version.number)
    sources: list[segment_changes.Record | None] = [None] * len(found)
    if batch is not None and at is not None:
        event = steps.event[found.step]
        caused = np.flatnonzero(event >= 0)
        out.caused = batch.time[at[event[caused]]]
        record = batch.record[at[event[caused]]]
        for i, source, offset in zip(
            caused.tolist(), batch.source[record].tolist(), batch.offset[record].tolist(), strict=True
        ):
            sources[i] = segment_changes.Record(rule.sources[source], rule.partition, offset)
    out.change_records = segment_changes.documents(found, users, assigned, version, sources)


def _alert(
    out: Outcome,
    users: Sequence[bytes],
    heads: rows.Heads,
    steps: fold.Steps,
    raw: NDArray[np.float64],
    progress: Progress,
    version: Version | None,
    rule: Rule,
    batch: EventBatch | None = None,
    at: Ints | None = None,
    watermark: Ints | None = None,
) -> None:
    shop = np.full(len(steps.row), np.iinfo(np.int64).max)
    if batch is not None and at is not None and watermark is not None:
        judged = np.flatnonzero(steps.event >= 0)
        applied = np.argsort(at, kind="stable")  # events in the applied order
        spend = steps.windows[judged[applied], windows.WINDOWS.index("24h"), VOCABULARY.column("spend")]
        hour = alerts.hour_of(watermark[at[applied]])
        bought = batch.type[at[applied]] == VOCABULARY.code("purchase")
        shop[judged[applied]] = alerts.shop_thresholds(rule.alerts, progress.shop, hour, spend, bought)
    error = None
    if rule.alerts.unusual and version is not None and version.encoder is not None:
        error = version.encoder.unusual(raw)
    out.alerts = alerts.find(heads, steps, alerts.levels(rule.alerts, steps, shop, error))
    out.alert_records = alerts.documents(out.alerts, users, steps, rule.alerts, shop, error)


def _train(
    out: Outcome,
    users: Sequence[bytes],
    heads: rows.Heads,
    steps: fold.Steps,
    raw: NDArray[np.float64],
    at: Ints,
    watermark: Ints,
    progress: Progress,
    rule: Rule,
) -> None:
    """Training rows of a batch; marks the new users among them as followed, in place."""
    wanted, kind, mixed = training_records.chosen(steps, heads["birth"][steps.row])
    order = np.argsort(at[steps.event[wanted]], kind="stable")  # the applied order
    wanted, kind, mixed = wanted[order], kind[order], mixed[order]
    hours = alerts.hour_of(watermark[at[steps.event[wanted]]])
    sent = training_records.sampled(progress.shop, hours, mixed, rule.training_hourly)
    wanted, kind = wanted[sent], kind[sent]
    row = steps.row[wanted]
    young = (kind == SAMPLE_ROW) & (steps.now[wanted] < training_records.day_end(heads["born"][row].astype(np.int64)))
    heads["followed"][row[young]] = 1
    _teach(out, users, heads, steps, raw, wanted, kind, rule)
    _teach_days(out, users, heads, steps, raw, rule)


def _teach_days(
    out: Outcome, users: Sequence[bytes], heads: rows.Heads, steps: fold.Steps, raw: NDArray[np.float64], rule: Rule
) -> Ints:
    """Training rows of followed users whose first day ends, the steps; they are followed no more, in place: a step that
    is decided once more, as a sweep under way may ask, is not told twice."""
    ends = training_records.day_ends(heads, steps)
    _teach(out, users, heads, steps, raw, ends, np.full(len(ends), FIRST_DAY_ROW, np.int8), rule)
    heads["followed"][steps.row[ends]] = 0
    return ends


def _teach(
    out: Outcome,
    users: Sequence[bytes],
    heads: rows.Heads,
    steps: fold.Steps,
    raw: NDArray[np.float64],
    wanted: Ints,
    kind: NDArray[np.int8],
    rule: Rule,
) -> None:
    if not len(wanted):
        return
    row = steps.row[wanted]
    born = heads["born"][row].astype(np.int64)
    values = training_records.encode(kind, steps, wanted, born, training_records.layout(features.NAMES), raw)
    names = [training_records.pseudonym(users[i], rule.training_key) for i in row.tolist()]
    out.training_records += zip(names, values, strict=True)


def local_block(time: Ints, timezone: str) -> Ints:
    """Three-hour block (0-7) of the shop's day for each time (ms)."""
    if timezone == "UTC":
        return time // 10_800_000 % 8
    from datetime import UTC, datetime

    zone = ZoneInfo(timezone)
    quarter, inverse = np.unique(time // 900_000, return_inverse=True)  # offsets change on quarter hours at most
    offset = [datetime.fromtimestamp(q * 900, UTC).astimezone(zone).utcoffset() for q in quarter.tolist()]
    shift = np.array([int(o.total_seconds() * 1000) if o else 0 for o in offset], np.int64)
    return (time + shift[inverse]) // 10_800_000 % 8
