"""The shell around a partition's task, on real Kafka, processes and signals: every record counts exactly once."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from state import rows
from state.vocabulary import VOCABULARY
from streams.config.settings import Settings, load
from streams.kafka import changelog
from streams.kafka.reader import reader
from streams.kafka.topics import ensure
from streams.processing import progress
from streams.processing.progress import PROGRESS_KEY, Progress
from tests.processes import SHOAL, remove_dead_members
from tests.support.forks import Process, spawn
from tests.support.sending import Message, send_records

pytestmark = pytest.mark.kafka
CODECS = ("gzip", "snappy", "lz4", "zstd")
PARTITIONS = 4
PATIENCE = 90.0  # seconds without the state hoped for, then the test has failed
Reached = Callable[[dict[int, Progress]], bool]


class Shell:
    """A deployment, its worker processes, and what was sent to it."""

    def __init__(self, bootstrap: str, prefix: str, home: Path) -> None:
        self.home = home
        self.values: dict[str, Any] = {
            "prefix": prefix,
            "kafka.bootstrap_servers": bootstrap,
            "topics.partitions": PARTITIONS,
            "topics.replication": 1,
            "topics.min_insync_replicas": 1,
            "learner.first_rows": 1_000_000,
            "web.port": 0,
            "state.max_poll_records": 300,
            "state.session_timeout": 6.0,
            "state.rebalance_timeout": 6.0,
        }
        self.settings: Settings = load(environ={}, **self.values)
        self.workers: dict[str, Process] = {}
        self._ended: list[Process] = []
        self.sent: Counter[bytes] = Counter()  # by user
        self.ends: Counter[str] = Counter()  # records by topic
        self._clock = int(time.time() * 1000) - 3_600_000

    def start(self, name: str) -> None:
        passed = self.values | {"state.datadir": str(self.home / name)}
        names = {f"SHOAL_{key.upper().replace('.', '__')}": str(value) for key, value in passed.items()}
        remove_dead_members(self.settings, self._ended)
        with self.log(name).open("ab") as log:
            self.workers[name] = spawn([*SHOAL, "-v", "worker"], env=os.environ | names, output=log)

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def end(self, name: str, how: signal.Signals) -> int:
        worker = self.workers.pop(name)
        worker.send_signal(how)
        self._ended.append(worker)
        return worker.wait(60)

    def send(self, count: int, codec: str = "gzip") -> None:
        """Views to the first source, purchases to the second, in one time."""
        asyncio.run(send_records(self.settings, map(self._record, range(count)), compression_type=codec))

    def _record(self, i: int) -> tuple[str, Message]:
        views, purchases = self.settings.source_topics
        self._clock += 7
        user = f"user-{i * 7919 % 997}".encode()
        topic, kind = (purchases, "purchase") if i % 5 == 0 else (views, "view")
        event = {"event_time": self._clock, "event_type": kind, "user_id": user.decode(), "price": 1.5}
        self.sent[user] += 1
        self.ends[topic] += 1
        return topic, Message(json.dumps(event).encode(), user, stamp=self._clock)

    def until(self, reached: Reached) -> dict[int, Progress]:
        return asyncio.run(asyncio.wait_for(self._until(reached), PATIENCE))

    async def _until(self, reached: Reached) -> dict[int, Progress]:
        """Follow the progress records from the changelog's start until they are as wanted."""
        consumer = reader(self.settings)
        found: dict[int, Progress] = {}
        await consumer.start()
        try:
            tps = [TopicPartition(self.settings.changelog, number) for number in range(PARTITIONS)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            while not reached(found):
                for name, worker in self.workers.items():
                    assert worker.poll() is None, self.log(name).read_text()[-3000:]
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        if record.key == PROGRESS_KEY:
                            found[record.partition] = progress.loads(record.value)
        finally:
            await consumer.stop()
        return found

    def applied(self, found: dict[int, Progress]) -> int:
        return sum(one.ordinal for one in found.values())

    def read_all(self, found: dict[int, Progress]) -> bool:
        """All sources were applied to their ends (nothing but records lies in these topics)."""
        return all(
            sum(one.sources[topic].offset for one in found.values() if topic in one.sources) >= end
            for topic, end in self.ends.items()
        )

    def check(self) -> None:
        """Each user's row holds each of its records once; so does the progress."""
        found = self.until(self.read_all)
        stored, last = asyncio.run(changelog.read(self.settings))
        assert self.applied(found) == self.applied(last) == sum(self.sent.values())
        users = list(stored)
        heads = rows.join([stored[user] for user in users]).heads
        measures = VOCABULARY.columns(("product_views", "items"))
        counted = heads["totals"][:, measures].sum(axis=1).tolist()
        assert dict(zip(users, counted, strict=True)) == dict(self.sent)


@pytest.fixture
def shell(kafka: str, prefix: str, tmp_path: Path) -> Iterator[Shell]:
    made = Shell(kafka, prefix, tmp_path)
    ensure(made.settings)
    yield made
    for worker in made.workers.values():
        worker.kill()
        worker.wait()


def test_all_codecs_count_exactly_and_sigterm_is_a_clean_end(shell: Shell) -> None:
    for codec in CODECS:
        shell.send(5_000, codec)
    shell.start("a")
    shell.check()
    assert shell.end("a", signal.SIGTERM) == 0
    shell.send(1_000)
    shell.start("a")
    shell.check()


def test_kill_mid_stream(shell: Shell) -> None:
    for _ in range(3):
        before = sum(shell.sent.values())
        shell.send(4_000)
        shell.start("a")
        shell.until(lambda found, before=before: shell.applied(found) > before)  # type: ignore[misc]
        assert shell.end("a", signal.SIGKILL) == -signal.SIGKILL
    shell.start("a")
    shell.check()


def test_empty_local_state_and_a_backlog(shell: Shell) -> None:
    shell.send(5_000)
    shell.start("a")
    shell.until(lambda found: shell.applied(found) > 1_000)
    shell.end("a", signal.SIGKILL)
    shutil.rmtree(shell.home / "a")
    shell.send(5_000, "zstd")
    shell.start("a")
    shell.check()


def test_second_worker_joins_and_the_first_is_killed(shell: Shell) -> None:
    shell.send(5_000)
    shell.start("a")
    shell.until(lambda found: shell.applied(found) > 1_000)
    shell.start("b")
    shell.send(5_000, "lz4")
    shell.check()  # and both still live: a rebalance ends no worker
    shell.send(2_000)
    shell.end("a", signal.SIGKILL)
    shell.send(2_000, "snappy")
    shell.check()
