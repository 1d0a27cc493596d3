"""(a) A real `shoal worker` doing all of the path: RocksDB, changelog, transactions, models and outputs included."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.structs import TopicPartition

from streams.config.settings import Settings
from streams.kafka.reader import reader
from streams.processing import progress
from streams.processing.progress import PROGRESS_KEY
from tests.bench.measure import Figure, cpu_seconds, memory_mib
from tests.processes import SHOAL, deployment

TAIL = 40_000  # changelog records among which the newest progress lies: more than a flush has
# Event time runs a thousand times faster here than a clock: at the defaults there would be a new version, and a pass
# over all users, all the time. The first comes as soon as by default, so that one is in force for most of a run.
FEW_SWAPS: dict[str, object] = {"learner.every": 86_400.0, "learner.every_rows": 50_000}
OUTPUTS = ("segment_changes", "segments", "alerts", "dead_letters", "training_rows", "models", "segment_lineage")


def of_its_own(bootstrap: str, shape: str, name: str, **more: object) -> Settings:
    """A deployment that shares nothing with the others over the same sources, which have the shape as prefix."""
    topics = {f"topics.{key}": f"{name}-{key.replace('_', '-')}" for key in OUTPUTS}
    return deployment(
        bootstrap,
        f"{shape}-",
        application=name,
        **{"state.session_timeout": 10.0, "state.rebalance_timeout": 30.0, **topics, **more},
    )


@dataclass(frozen=True, slots=True)
class Running:
    """A worker process and its page."""

    process: subprocess.Popen[bytes]
    log: Path

    def status(self) -> dict[str, Any] | None:
        """What its page says; None while there is none or it is not ready. RuntimeError where it has ended."""
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"the worker ended with exit code {self.process.returncode}:\n{tail}")
        with suppress(OSError, ValueError):
            state = self.page("/status")
            return state if state["ready"] else None
        return None

    def page(self, path: str) -> dict[str, Any]:
        """A JSON document of the worker's page; OSError or ValueError where there is none (yet)."""
        found = re.search(r"shoal: worker on (http://\S+:\d+)", self.log.read_text(errors="replace"))
        if found is None:
            raise ConnectionError("no address yet")
        with urllib.request.urlopen(found[1] + path, timeout=30) as page:
            answer: dict[str, Any] = json.load(page)
            return answer


@contextmanager
def running(settings: Settings, folder: Path) -> Iterator[Running]:
    """A `shoal worker` with its state and log in folder; stopped at the end, by SIGTERM first."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = settings.model_dump(mode="json", exclude_unset=True) | {"state.datadir": str(folder / "state")}
    names = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
    log = folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*SHOAL, "worker"],
            env=names | dict(variables(chosen)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Running(process, log)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()


def variables(chosen: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Settings as environment variables: names and values."""
    for name, value in chosen.items():
        if isinstance(value, dict):
            yield from variables(value, f"{before}{name}.")
        else:
            text = _toml(value) if isinstance(value, list) else str(value)
            yield f"SHOAL_{(before + name).upper().replace('.', '__')}", text


def _toml(value: Any) -> str:
    """A list, with the tables in it, as a variable has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + "}"
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def applied(state: Mapping[str, Any] | None) -> int:
    """Records that a worker's page says it has applied: committed or not."""
    parts = state["partitions"].values() if state else ()
    return sum(source["offset"] for part in parts for source in part["sources"].values())


async def committed(settings: Settings) -> int:
    """Records that the newest committed progress stands for, from the changelog's last records alone."""
    consumer = reader(settings)
    await consumer.start()
    found: dict[int, int] = {}
    try:
        tps = [TopicPartition(settings.changelog, number) for number in range(settings.topics.partitions)]
        consumer.assign(tps)
        for tp, end in (await consumer.end_offsets(tps)).items():
            consumer.seek(tp, max(0, end - TAIL))
            while await consumer.position(tp) < end:
                for records in (await consumer.getmany(tp, timeout_ms=100)).values():
                    for record in records:
                        if record.key == PROGRESS_KEY:
                            sources = progress.loads(record.value).sources.values()
                            found[tp.partition] = sum(source.offset for source in sources)
    finally:
        await consumer.stop()
    return sum(found.values())


def measure(settings: Settings, folder: Path, total: int, show: Callable[[int], None], patience: float) -> Figure:
    """From the first look that finds records applied to the commit of the last: counts, times and CPU between the two,
    so that starting up does not count. RuntimeError where a record was rejected or the patience (s) ends."""
    deadline = time.monotonic() + patience
    with running(settings, folder) as worker:
        begun: tuple[int, float, float] | None = None
        model_from: int | None = None
        while True:
            state = worker.status()
            count, now = applied(state), time.monotonic()
            show(count)
            if count and begun is None:
                begun = count, now, cpu_seconds(worker.process.pid)
            if model_from is None and state and any(p["model_version"] for p in state["partitions"].values()):
                model_from = count
            if count >= total and asyncio.run(committed(settings)) >= total:
                break
            if now > deadline:
                raise RuntimeError(f"{count} of {total} records were applied within {patience:.0f} s: {worker.log}")
            time.sleep(0.02 if begun is None else 0.2)
        end, cpu, peak = time.monotonic(), cpu_seconds(worker.process.pid), memory_mib(worker.process.pid)
        state = worker.status()
    assert begun is not None
    assert state is not None
    counts = state["counts"]
    rejects = {name: number for name, number in counts.items() if name.startswith("reject")}
    if rejects or counts["events"] != total:
        raise RuntimeError(f"of {total} events {counts['events']} were counted, rejects: {rejects}")
    return Figure(
        total - begun[0],
        end - begun[1],
        cpu - begun[2],
        peak,
        {
            "model_in_force_from": model_from,
            "versions": state["newest_version"],
            "counts": counts,
            "users": sum(part["users"] for part in state["partitions"].values()),
        },
    )
