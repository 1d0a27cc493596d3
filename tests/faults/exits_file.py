"""`make exits DATA=FILE`: every exit of every user of a file, through a real worker, against the oracle.

The file is sent at full speed but for a slice at `--speed 60`, in which it is measured how much event time passes
between the moment the watermark passes an edge and the record on `segment-changes` that says so. Then the watermark is
advanced to 32 days past the file's end, and every transition and its as-of time is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from streams.config.settings import Settings
from streams.kafka import requests
from streams.kafka.reader import reader
from streams.offline.event_files import FileRecord, read_events
from streams.offline.replay import replay
from streams.processing.partitioner import partitions_of
from tests.faults.evidence import gather, moved, read_topic
from tests.faults.order import UNIT
from tests.faults.runner import Run
from tests.faults.send import Sender
from tests.faults.verify import verify
from tests.support.events.squeezed_month import DAY, HOUR, MINUTE, Sent


def sent(file: Path) -> list[Sent]:
    return [
        Sent(int(line.bought), line.key, line.value, line.timestamp, "")
        for chunk in read_events(file, "shoal")
        for line in chunk
    ]


async def _changes(settings: Settings) -> list[tuple[int, Any]]:
    """When each change's record was sent (ms), and the change."""
    consumer = reader(settings)
    await consumer.start()
    try:
        found = await read_topic(consumer, settings.topic("segment_changes"), settings.topics.partitions)
    finally:
        await consumer.stop()
    return [(record.timestamp, moved(json.loads(record.value))) for records in found.values() for record in records]


def delays(settings: Settings, before: Sequence[Sent], paced: Sequence[Sent], begun: float, speed: float) -> np.ndarray:
    """Event time (ms) from an edge that the watermark passed in the slice to the record of each change by expiry.

    begun: wall clock (s) at which the first record of the slice was due; the others follow by their event times.
    """
    many, lateness = settings.topics.partitions, int(settings.lateness * 1000)
    part = partitions_of([one.key for one in [*before, *paced]], many)
    time_of = np.array([one.stamp for one in [*before, *paced]], np.int64)  # a file's records have their event's time
    first = len(before)
    out = []
    marks = {}
    for number in range(many):
        mine = part == number
        top = np.maximum.accumulate(np.where(mine, time_of, 0))
        marks[number] = (top - lateness) // UNIT * UNIT
    for stamp, change in asyncio.run(_changes(settings)):
        mark = marks[int(partitions_of([change.user.encode()], many)[0])]
        at = int(np.searchsorted(mark, change.as_of))
        if change.cause == "expiry" and first <= at < len(mark):
            due = begun + (paced[at - first].stamp - paced[0].stamp) / 1000 / speed
            out.append((stamp / 1000 - due) * speed * 1000)
    return np.array(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--speed", type=float, default=60.0)
    parser.add_argument("--minutes", type=float, default=4.0, help="wall time of the slice; 0 leaves it out")
    parser.add_argument("--keep", type=Path, help="folder of broker and worker, kept")
    chosen = parser.parse_args()
    home = chosen.keep or Path(tempfile.mkdtemp(prefix="shoal-exits-"))
    records = sent(chosen.file)
    span = int(chosen.minutes * MINUTE * chosen.speed)
    begin = records[0].stamp + int((records[-1].stamp - records[0].stamp) * 0.9) // HOUR * HOUR
    stamps = np.maximum.accumulate(np.array([one.stamp for one in records]))
    a, b = (int(np.searchsorted(stamps, at)) for at in (begin, begin + span))
    run = Run(home, 1, None, records=records)
    told: dict[str, Any] = {"events": len(records), "slice": b - a, "speed": chosen.speed}
    try:
        run.start("a")
        _send(run, records[:a], a)
        run.publish()
        if b > a:
            run.wait(
                lambda: all(
                    one.swept >= one.watermark and one.cursor is None and one.version == 2
                    for one in run.follower.standing.values()
                ),
                "the sweep",
                600,
            )
            begun = time.time()
            replay(
                run.settings,
                [[FileRecord(o.key, o.value, o.stamp, bool(o.source)) for o in records[a:b]]],
                speed=chosen.speed,
                allow_jumps=True,
            )
            run.wait(lambda: run.follower.applied() >= b, "the slice")
            run.wait(lambda: all(o.swept >= o.watermark for o in run.follower.standing.values()), "the sweep")
            late = delays(run.settings, records[:a], records[a:b], begun, chosen.speed) / MINUTE
            told |= {
                "expiries_in_slice": len(late),
                "minutes_after_watermark": {
                    "median": round(float(np.median(late)), 2),
                    "99%": round(float(np.quantile(late, 0.99)), 2),
                    "most": round(float(late.max()), 2),
                }
                if len(late)
                else None,
                "in_time": bool((late < 5).all()),
            }
        _send(run, records[b:], len(records))
        run.publish()
        to = records[-1].stamp // UNIT * UNIT + 32 * DAY
        started = time.monotonic()
        requests.advance(run.settings, to, 120.0)
        run.wait(
            lambda: all(
                one.swept >= to and one.cursor is None and one.version == 3 for one in run.follower.standing.values()
            ),
            "the last sweep",
            900,
        )
        told["advance_seconds"] = round(time.monotonic() - started, 1)
        assert run.end("a") == 0
        report = verify(gather(run.settings))
    finally:
        run.close()
    told |= asdict(report) | {"faults": report.faults()}
    print(json.dumps(told, indent=1))
    return bool(report.faults()) or not told.get("in_time", True)


def _send(run: Run, records: Sequence[Sent], upto: int) -> None:
    sender = Sender(run.settings, records, None)
    run.wait(lambda: sender.done() and run.follower.applied() >= upto, "records to be applied", 900)


if __name__ == "__main__":
    sys.exit(main())
