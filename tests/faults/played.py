"""A good run without a broker: the stream through one task in memory, and the evidence that it would leave."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from online_models.version import Version
from state.stores.memory import MemoryStore
from streams.processing.outputs.output_buffer import Topics
from streams.processing.partition_config import PartitionConfig
from streams.processing.partition_processor import PartitionProcessor
from streams.processing.progress import PROGRESS_KEY, loads
from streams.schemas.flat_json import FlatJson
from streams.schemas.record_batch import RecordBatch
from streams.schemas.schema import decoder
from tests.faults.evidence import Evidence, Logged, letter, moved
from tests.support.events.squeezed_month import DAY, Sent

TOPICS = Topics("changes", "segments", "alerts", "dead", "training", "receipts")
SOURCES = ("clickstream", "purchases")


def play(records: list[Sent], versions: list[Version], seed: int, fetch: int = 60) -> Evidence:
    """One partition; fetches, turns and flushes fall as the seed says, a version comes after each third."""
    rng = np.random.default_rng(seed)
    store = MemoryStore()
    decode = decoder([FlatJson()] * len(SOURCES))
    task = PartitionProcessor(
        PartitionConfig(sources=SOURCES), decode, store, TOPICS, commands="commands", journal=True
    )
    queues = [[one for one in records if one.source == source] for source in (0, 1)]
    logs = [[Logged(i, one.value, one.reason, one.key) for i, one in enumerate(queue)] for queue in queues]
    out = Evidence(SOURCES, 300_000, {0: logs}, {0: []}, {}, {}, [], [], [])
    due = [len(records) * i // len(versions) for i in range(len(versions))]
    ends = {name: len(queue) for name, queue in zip(SOURCES, queues, strict=True)}
    read = [0, 0]

    def flush() -> None:
        found = task.cut(0)
        if found is None:
            return
        for key, row in found.rows.items():
            if key == PROGRESS_KEY:
                out.progress[0].append(loads(row or b""))
            elif row is None:
                out.rows.pop(key, None)
            else:
                out.rows[key] = row
        out.changes += [moved(json.loads(value or b"")) for _, value, _ in found.outputs.get(("changes", 0), [])]
        receipts = [json.loads(value or b"") for _, value, _ in found.outputs.get(("receipts", 0), [])]
        out.receipts += [receipt["data"]["request_id"] for receipt in receipts]
        out.letters += [letter(dict(headers)) for _, _, headers in found.outputs.get(("dead", 0), [])]

    def order(command: dict[str, Any]) -> None:
        at = len(out.requests)
        out.requests.append(f"r{at}")
        value = json.dumps(command | {"request_id": f"r{at}"}).encode()
        task.add(RecordBatch("commands", 0, at, at, [at], [None], [value], [0]))

    while sum(read) < len(records):
        while due and sum(read) >= due[0]:
            due.pop(0)
            version = versions[len(versions) - len(due) - 1]
            out.versions[version.number] = version
            task.adopt(version)
        for source in (0, 1):
            at, upto = read[source], min(len(queues[source]), read[source] + int(rng.integers(1, fetch)))
            if upto > at and SOURCES[source] not in task.full_topics():
                part = queues[source][at:upto]
                task.add(
                    RecordBatch(
                        SOURCES[source],
                        0,
                        at,
                        upto - 1,
                        list(range(at, upto)),
                        [o.key for o in part],
                        [o.value for o in part],
                        [o.stamp for o in part],
                    )
                )
                read[source] = upto
        if rng.random() < 0.1:
            order({"command": "erase", "user_id": records[int(rng.integers(sum(read)))].key.decode()})
        task.run(1 << 60, ends)
        if rng.random() < 0.5:
            task.sweep(50)
            task.continue_pass(50)
        if rng.random() < 0.7:
            flush()
    flush()
    out.early = dict(out.rows)
    order({"command": "advance", "to": records[-1].stamp + 33 * DAY})
    task.run(1 << 60, ends)
    while any(
        (task.continue_pass(50), task.sweep(50), task.swap_pending, task.progress.swept < task.progress.watermark)
    ):
        flush()
    flush()
    out.any_changes = list(out.changes)
    return out
