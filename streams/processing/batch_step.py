"""One batch of one partition: rows and events in, new rows and decisions out. No IO, no clock, no chance.

`apply_batch` evaluates rows with events, `advance_rows` rows without. Both fold what is new into the rows, and decide
at each step of a user's history which segment the user is in, which alerts change, and which training rows are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np

from online_models.version import Version
from state import expiry_index, features, history, row_windows, rows, windows
from state.layout import Ints
from streams.processing.decisions import (
    AppliedEvents,
    Evaluation,
    Outcome,
    change_alerts,
    change_segments,
    send_first_day_rows,
    send_training_rows,
)
from streams.processing.partition_config import PartitionConfig
from streams.processing.progress import Progress
from streams.schemas.event_batch import REASONS, EventBatch

WRONG_PARTITION = REASONS.index("wrong_partition")
QUARTER_MS, BLOCK_MS = 900_000, 10_800_000  # 15 minutes; three hours

_NONE = np.zeros(0, np.int64)
_NO_EVENTS = history.Events(
    time=_NONE,
    watermark=_NONE,
    type=_NONE.astype(np.int8),
    amount=_NONE,
    quantity=_NONE,
    event_id=_NONE.astype(np.uint64),
    session=_NONE.astype(np.uint64),
    order=_NONE.astype(np.uint64),
    category=_NONE.astype(np.uint32),
    brand=_NONE.astype(np.uint32),
    place=np.zeros((0, 3), np.uint32),
    block=_NONE,
    ordinal=_NONE,
)


def floor_unit(ms: Ints | int) -> Ints:
    """Times (ms), rounded down to five minutes."""
    return np.asarray(ms) // windows.UNIT * windows.UNIT


# -- a batch of events ------------------------------------------------------------------------------------------------


def apply_batch(
    users: Sequence[bytes],
    row_of: Ints,
    joined: rows.Rows,
    batch: EventBatch,
    progress: Progress,
    version: Version | None,
    config: PartitionConfig,
) -> Outcome:
    """Apply a batch of n records and m events in its order to the rows of its users.

    users (u,): distinct ids; row_of (n,): user of each record, -1 for a rejected one; joined (u,): their rows, blank
    where new. In place, the heads of the rows change, batch.reason gains the records of other partitions, and progress
    goes on.
    """
    outcome = Outcome()
    heads = joined.heads
    ordinal, watermark = _advance_progress(progress, batch, config)
    row_of = _reject_misplaced(users, row_of, heads, batch, config)
    by_row, first_event = history.events_by_row(row_of[batch.record], len(heads))
    # each event is judged by the watermark before its record
    events = _events(batch, ordinal[batch.record], watermark[batch.record], config.timezone)

    known = heads["birth"] >= 0
    swap = known & (heads["model"] != version.number) if version is not None else np.zeros(len(heads), bool)
    forgotten = expiry_index.forgotten(heads["last"], np.maximum(heads["clock"], progress.swept), config.forget)
    due_in_sweep = None
    if progress.sweeping:  # the sweep may have passed and moved the entry
        due_in_sweep = np.where(known, _next_due(joined, progress.sweeping, config), expiry_index.NONE)
    requested = history.asked_by_events(swap, progress.mark, progress.swept)
    result = history.apply(joined, events, by_row, first_event, requested)
    due = np.where(known, np.minimum(result.due_before, forgotten), expiry_index.NONE)

    steps = result.steps
    outcome.repeated = len(by_row) - int(np.count_nonzero(steps.event >= 0))
    touched = np.flatnonzero(result.touched)
    if not len(touched):
        return outcome
    progress.users += int(np.count_nonzero(result.touched & ~known))
    raw = features.raw(steps.windows, steps.hours)
    applied = AppliedEvents(batch, events.watermark)
    evaluation = Evaluation(users, heads, steps, raw, progress, version, config, applied)
    outcome.exits = int(np.count_nonzero(steps.event == history.EXIT))
    change_segments(evaluation, outcome)
    change_alerts(evaluation, outcome)
    send_training_rows(evaluation, applied, outcome)

    keys = [users[i] for i in touched.tolist()]
    outcome.written = dict(zip(keys, rows.cut(result.rows, touched), strict=True))
    next_due = expiry_index.next_due(result.due_after, heads["last"], heads["clock"], config.forget)[touched]
    if due_in_sweep is not None:
        outcome.index = expiry_index.moved(keys, due_in_sweep[touched], next_due)
    outcome.index |= expiry_index.moved(keys, due[touched], next_due)
    return outcome


def _advance_progress(progress: Progress, batch: EventBatch, config: PartitionConfig) -> tuple[Ints, Ints]:
    """Count the records and raise the watermark, in place. Returns the ordinal of each record and the watermark before
    it (ms): (n,) each."""
    count = len(batch.key)
    ordinal = progress.ordinal + np.arange(count)
    top = np.maximum.accumulate(np.r_[progress.top, batch.key])  # the largest merge key before each record, and after
    watermark = np.maximum(progress.watermark, floor_unit(top[:-1] - config.lateness))
    progress.ordinal += count
    progress.top = int(top[-1])
    progress.watermark = max(progress.watermark, int(floor_unit(progress.top - config.lateness)))
    return ordinal, watermark


def _reject_misplaced(
    users: Sequence[bytes], row_of: Ints, heads: rows.Heads, batch: EventBatch, config: PartitionConfig
) -> Ints:
    """Reject the records of new users of other partitions: batch.reason is changed in place. Returns the row of each
    record (n,), -1 for a rejected one."""
    if config.placed is not None:
        unknown = np.flatnonzero(heads["birth"] < 0)
        misplaced = unknown[config.placed([users[i] for i in unknown.tolist()]) != config.partition]
        if len(misplaced):
            wrong = np.isin(row_of, misplaced)
            batch.reason[wrong] = WRONG_PARTITION
            return np.where(wrong, -1, row_of)
    return row_of


def _events(batch: EventBatch, ordinal: Ints, watermark: Ints, timezone: str) -> history.Events:
    """The events of a batch; ordinal (m,) and watermark (m,), ms, of their records."""
    return history.Events(
        time=batch.time,
        watermark=watermark,
        type=batch.type,
        amount=batch.amount,
        quantity=batch.quantity,
        event_id=batch.event_id,
        session=batch.session,
        order=batch.order,
        category=batch.category,
        brand=batch.brand,
        place=np.stack((batch.country, batch.region, batch.city), 1),
        block=blocks_of_day(batch.time, timezone),
        ordinal=ordinal,
    )


def find_forgotten_user(
    row_of: Ints, heads: rows.Heads, batch: EventBatch, progress: Progress, config: PartitionConfig
) -> int | None:
    """The first record whose user may have to be forgotten before it; None for nearly every batch.

    The answer is certain where it is 0: for later records it depends on those before, which may be repeats. No user is
    forgotten between two events of a record: the first one decides.

    row_of (n,): row of each record's user, -1 for a rejected one; heads (u,): of the rows.
    """
    if not len(batch.record):
        return None
    known = heads["birth"] >= 0
    top = np.maximum.accumulate(np.r_[progress.top, batch.key])
    watermark = np.maximum(progress.watermark, floor_unit(top - config.lateness))
    earliest = int(heads["last"].min(where=known, initial=int(batch.time.min())))
    latest = max(int(batch.time.max()), int(watermark[-1]))
    if latest // windows.UNIT < expiry_index.forgotten(earliest, earliest, config.forget):
        return None
    # (last, clock) of each row: its largest event time, and as of when it was judged last, both in ms
    columns = known.tolist(), heads["last"].tolist(), heads["clock"].tolist()
    times = [(last, clock) if is_known else None for is_known, last, clock in zip(*columns, strict=True)]
    judged = np.maximum(batch.time, watermark[:-1][batch.record])
    is_first = np.r_[True, batch.record[1:] != batch.record[:-1]]
    for i, record in enumerate(batch.record.tolist()):
        row, time, now = int(row_of[record]), int(batch.time[i]), int(judged[i])
        before = times[row]
        if before is None:
            times[row] = time, now
            continue
        last, clock = before
        if is_first[i] and now // windows.UNIT >= expiry_index.forgotten(last, clock, config.forget):
            return int(record)
        if not batch.event_id[i]:  # others may be repeats
            times[row] = max(last, time), max(clock, now)
    return None


# -- rows without events ----------------------------------------------------------------------------------------------


def advance_rows(
    users: Sequence[bytes],
    stored: Sequence[bytes],
    until: int,
    progress: Progress,
    version: Version | None,
    config: PartitionConfig,
    *,
    erase: bool = False,
) -> Outcome:
    """Evaluate rows up to a time (ms, an edge of a pane) without an event: for a sweep, the pass after a swap, an
    erasure.

    users (u,) and their rows, stored (u,). Rows in which nothing but the clock would change are not written; a user who
    is forgotten by then, or erased, gets a tombstone. The outcome has the new entries of the expiry index; the caller
    deletes those by which it found the users.
    """
    outcome = Outcome()
    joined = rows.join(stored)
    heads = joined.heads
    swap = np.zeros(len(heads), bool) if version is None else heads["model"] != version.number
    decided_until, end = _erased_at(heads, until, progress) if erase else _forgotten_at(heads, until, config)
    ending = history.ERASED if erase else history.FORGOTTEN
    requested = history.Asked(swap, progress.mark, progress.swept, decided_until, end, ending)
    steps = history.apply(joined, _NO_EVENTS, _NONE, np.zeros(len(heads) + 1, np.int64), requested).steps
    raw = features.raw(steps.windows, steps.hours)
    evaluation = Evaluation(users, heads, steps, raw, progress, version, config)
    outcome.exits = int(np.count_nonzero(steps.event == history.EXIT))
    change_segments(evaluation, outcome)
    change_alerts(evaluation, outcome)
    day_ends = send_first_day_rows(evaluation, outcome)

    alert_steps = np.array([alert.step for alert in outcome.alerts], np.int64)
    decisive = np.concatenate((outcome.changes.step, alert_steps, day_ends))
    changed = np.zeros(len(heads), bool)
    changed[steps.row[decisive]] = True
    np.maximum.at(heads["clock"], steps.row[decisive], steps.now[decisive])
    ended = np.flatnonzero(end != rows.NEVER)
    if until > progress.swept:
        next_due = _next_due(joined, until, config)
        next_due[ended] = expiry_index.NONE
        outcome.index = expiry_index.moved(users, np.zeros(len(users), np.int64), next_due)
    wanted = np.flatnonzero(changed)
    if len(wanted):
        keys = [users[i] for i in wanted.tolist()]
        outcome.written = dict(zip(keys, rows.cut(row_windows.settled(joined), wanted), strict=True))
    outcome.written |= dict.fromkeys(users[i] for i in ended.tolist())
    outcome.ended = len(ended)
    progress.users -= len(ended)
    return outcome


def _erased_at(heads: rows.Heads, until: int, progress: Progress) -> tuple[Ints, Ints]:
    """Up to when exits are decided and when the row ends, where users are erased (ms): (u,) each."""
    end = np.maximum(np.maximum(heads["clock"], progress.mark), until)
    return end, end


def _forgotten_at(heads: rows.Heads, until: int, config: PartitionConfig) -> tuple[Ints, Ints]:
    """Up to when exits are decided and when the row ends, NEVER if not by `until` (ms): (u,) each."""
    forgotten = expiry_index.forgotten(heads["last"], heads["clock"], config.forget) * windows.UNIT
    return np.minimum(forgotten, until), np.where(forgotten <= until, forgotten, rows.NEVER)


def _next_due(joined: rows.Rows, decided: int, config: PartitionConfig) -> Ints:
    """The next edge at which each row is due (u,), in units; decided (ms): exits up to here, or to the row's clock, are
    decided."""
    after = np.maximum(joined.heads["clock"], decided)
    edge = row_windows.next_edges(joined, after // windows.UNIT)
    return expiry_index.next_due(edge, joined.heads["last"], after, config.forget)


def blocks_of_day(time: Ints, timezone: str) -> Ints:
    """Three-hour block (0-7) of the shop's day for each time (ms): (n,)."""
    if timezone == "UTC":
        return time // BLOCK_MS % 8
    zone = ZoneInfo(timezone)
    quarter, quarter_of = np.unique(time // QUARTER_MS, return_inverse=True)  # offsets change on quarter hours at most
    starts = [datetime.fromtimestamp(q * QUARTER_MS // 1000, UTC).astimezone(zone) for q in quarter.tolist()]
    offsets = [start.utcoffset() for start in starts]
    shift = np.array([int(offset.total_seconds() * 1000) if offset else 0 for offset in offsets], np.int64)
    return (time + shift[quarter_of]) // BLOCK_MS % 8
