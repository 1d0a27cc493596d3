"""What a worker can be asked: how far it is, its gauges, one user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.metrics import Gauges
from online_models.version import Version
from state import rows
from state.vocabulary import VOCABULARY, Unit
from streams.offline import feature_table
from streams.processing.cloudevents import rfc3339
from streams.processing.partitioner import partitions_of
from streams.processing.progress import Progress
from streams.processing.segment_changes import CAUSES

if TYPE_CHECKING:
    from streams.runtime.worker import Worker


def gauges(worker: Worker) -> Gauges:
    """The worker as it stands, for its metrics."""
    ends = worker.app.consumer.ends() if worker.ready else {}
    lag: dict[tuple[str, int], int] = {}
    tasks = {number: part.task for number, part in sorted(worker.partitions.items()) if part.task is not None}
    sizes: dict[int, int] = {}
    for number, task in tasks.items():
        for topic, offset in task.positions().items():
            end = ends.get((topic, number))
            if end is not None:
                lag[topic, number] = max(0, end - offset)
        for segment, count in task.progress.sizes.items():
            sizes[segment] = sizes.get(segment, 0) + count
    newest = worker.models.newest
    return Gauges(
        lag=lag,
        watermark={number: task.progress.watermark / 1000.0 for number, task in tasks.items()},
        sweep_lag={number: task.progress.unswept / 1000.0 for number, task in tasks.items()},
        users={number: task.progress.users for number, task in tasks.items()},
        segment_users={segment: count for segment, count in sizes.items() if count},
        model_version={number: task.progress.version for number, task in tasks.items()},
        newest_version=newest.number if newest else 0,
        ready=worker.ready,
        pass_under_way={number: task.swap_pending for number, task in tasks.items()},
        learner=worker.learner.owner,
        cache_rows=sum(part.store.cached for part in worker.partitions.values()),
        rekey_lag={rekeyer.topic: rekeyer.lag for rekeyer in worker.rekeyers if rekeyer.owner},
        recovery_left=worker.recovery.left if worker.recovery else 0,
        recovery_seconds=worker.recovery.last if worker.recovery else 0.0,
        model_quality=newest.quality if newest else {},
    )


def status(worker: Worker) -> dict[str, Any]:
    """Per partition: offsets and ends of the sources, watermark, which source holds the others, model, pass."""
    ends = worker.app.consumer.ends() if worker.ready else {}
    newest = worker.models.newest
    return {
        "ready": worker.ready,
        "partitions": {
            number: {
                "sources": {
                    topic: {"offset": offset, "end": ends.get((topic, number))}
                    for topic, offset in part.task.positions().items()
                },
                **told(part.task.progress),
                "pass_under_way": part.task.swap_pending,
            }
            for number, part in sorted(worker.partitions.items())
            if part.task is not None
        },
        "rekey": {one.topic: {"owner": one.owner, "lag": one.lag, "behind": one.behind} for one in worker.rekeyers},
        "counts": worker.metrics.totals(),
        "newest_version": newest.number if newest else 0,
    }


def told(progress: Progress) -> dict[str, Any]:
    """A partition's progress for people: times in RFC 3339."""
    return {
        "users": progress.users,
        "sizes": {segment: count for segment, count in sorted(progress.sizes.items()) if count},
        "watermark": rfc3339(np.array([progress.watermark]))[0],
        "unswept_seconds": progress.unswept / 1000.0,
        "holding": progress.holding,
        "model_version": progress.version,
        "pass_under_way": progress.cursor is not None,
    }


def find(worker: Worker, ident: str) -> dict[str, Any] | None:
    """A user as this worker holds it; None where it holds none."""
    key = ident.encode()
    part = worker.partitions.get(int(partitions_of([key], worker.settings.topics.partitions)[0]))
    if part is None or part.task is None:
        return None
    row = part.store.get_many([key])[0]
    return None if row is None else user(ident, row, part.task.progress.watermark, part.task.version)


def user(ident: str, row: bytes, watermark: int, version: Version | None) -> dict[str, Any]:
    """One user: features as of the later of the row's clock and the watermark (ms), segment, last change, and what a
    version foretells (None where it is not known)."""
    head = rows.join([row])[0][0]
    now = max(int(head["clock"]), watermark)
    line = feature_table.table([ident.encode()], [row], now, version).to_pylist()[0]
    segment, changed = line["segment"], int(head["seq"]) > 0
    frm = int(head["frm"])
    as_of, since, last = rfc3339(np.array([now, max(0, int(head["since"])), int(head["last"])]))
    return {
        "user": ident,
        "segment": segment,
        "as_of": as_of,
        "last_event": last,
        "last_change": {
            "seq": int(head["seq"]),
            "from": None if frm == rows.UNASSIGNED else frm,
            "to": segment,
            "cause": CAUSES[int(head["cause"])],
            "as_of": since,
            "model_version": int(head["change_model"]),
        }
        if changed
        else None,
        "foretold": {name: line.get(name) for name in feature_table.FORETOLD},
        "features": {
            name: float(line[name]) if name in feature_table.IN_MONEY else line[name] for name in feature_table.COLUMNS
        },
        "totals": {
            name: int(head["totals"][VOCABULARY.column(name)]) / (100 if VOCABULARY.unit(name) is Unit.MONEY else 1)
            for name in VOCABULARY.published
        },
        "row_bytes": len(row),
    }
