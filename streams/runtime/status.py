"""What a worker reports: its gauges, the status of its partitions, one user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from monitoring.metrics import Gauges
from online_models.version import Version
from state import rows
from state.vocabulary import VOCABULARY, Unit
from streams.offline import feature_table
from streams.processing.outputs.cloudevents import rfc3339
from streams.processing.outputs.segment_changes import CAUSES
from streams.processing.partitioner import partitions_of
from streams.processing.progress import Progress

if TYPE_CHECKING:
    from streams.runtime.worker import Worker


def gauges(worker: Worker) -> Gauges:
    """The gauges of the worker's metrics."""
    lag: dict[tuple[str, int], int] = {}
    tasks = {
        number: partition.task for number, partition in sorted(worker.partitions.items()) if partition.task is not None
    }
    sizes: dict[int, int] = {}
    for number, task in tasks.items():
        for topic, offset in task.positions().items():
            end = _end_offset(worker, topic, number)
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
        cache_rows=sum(partition.store.rows_in_memory for partition in worker.partitions.values()),
        rekey_lag={service.topic: service.lag for service in worker.repartition_services if service.owner},
        recovery_left=worker.recovery.remaining if worker.recovery else 0,
        recovery_seconds=worker.recovery.last_seconds if worker.recovery else 0.0,
        model_quality=newest.quality if newest else {},
    )


def _end_offset(worker: Worker, topic: str, partition: int) -> int | None:
    return worker.app.consumer.end_offset(topic, partition) if worker.ready else None


def status(worker: Worker) -> dict[str, Any]:
    """The worker's state in JSON types.

    For each partition: offset and end of each source, and what `progress_status` tells.
    """
    newest = worker.models.newest
    return {
        "ready": worker.ready,
        "partitions": {
            number: {
                "sources": {
                    topic: {"offset": offset, "end": _end_offset(worker, topic, number)}
                    for topic, offset in partition.task.positions().items()
                },
                **progress_status(partition.task.progress),
                "pass_under_way": partition.task.swap_pending,
            }
            for number, partition in sorted(worker.partitions.items())
            if partition.task is not None
        },
        "rekey": {
            service.topic: {"owner": service.owner, "lag": service.lag, "behind": service.behind}
            for service in worker.repartition_services
        },
        "counts": worker.metrics.totals(),
        "newest_version": newest.number if newest else 0,
    }


def progress_status(progress: Progress) -> dict[str, Any]:
    """A partition's progress in JSON types; times in RFC 3339."""
    return {
        "users": progress.users,
        "sizes": {segment: count for segment, count in sorted(progress.sizes.items()) if count},
        "watermark": rfc3339(np.array([progress.watermark]))[0],
        "unswept_seconds": progress.unswept / 1000.0,
        "holding": progress.holding,
        "model_version": progress.version,
        "pass_under_way": progress.cursor is not None,
    }


def find_user(worker: Worker, user_id: str) -> dict[str, Any] | None:
    """A user's state in JSON types; None where the worker does not own the user's partition, or has no row."""
    key = user_id.encode()
    partition = worker.partitions.get(int(partitions_of([key], worker.settings.topics.partitions)[0]))
    if partition is None or partition.task is None:
        return None
    row = partition.store.get_many([key])[0]
    return (
        None if row is None else describe_user(user_id, row, partition.task.progress.watermark, partition.task.version)
    )


def describe_user(user_id: str, row: bytes, watermark: int, version: Version | None) -> dict[str, Any]:
    """A user's row in JSON types: features, segment, last change, predictions, totals.

    Features are as of the later of the row's clock and the watermark (ms). version: makes the predictions, which are
    None without one.
    """
    head = rows.join([row]).heads[0]
    as_of = max(int(head["clock"]), watermark)
    features = feature_table.table([user_id.encode()], [row], as_of, version).to_pylist()[0]
    segment, was_assigned = features["segment"], int(head["seq"]) > 0
    previous = int(head["frm"])
    as_of_text, since, last_event = rfc3339(np.array([as_of, max(0, int(head["since"])), int(head["last"])]))
    return {
        "user": user_id,
        "segment": segment,
        "as_of": as_of_text,
        "last_event": last_event,
        "last_change": {
            "seq": int(head["seq"]),
            "from": None if previous == rows.UNASSIGNED else previous,
            "to": segment,
            "cause": CAUSES[int(head["cause"])],
            "as_of": since,
            "model_version": int(head["change_model"]),
        }
        if was_assigned
        else None,
        "foretold": {name: features.get(name) for name in feature_table.FORETOLD},
        "features": {
            name: float(features[name]) if name in feature_table.IN_MONEY else features[name]
            for name in feature_table.COLUMNS
        },
        "totals": {
            name: int(head["totals"][VOCABULARY.column(name)]) / (100 if VOCABULARY.unit(name) is Unit.MONEY else 1)
            for name in VOCABULARY.published
        },
        "row_bytes": len(row),
    }
