"""One run: a deployment of its own, workers under a supervisor, a stream, and what is told of it at the end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource

from online_models.version import Version, dumps
from streams.config.settings import Settings
from streams.embedded_kafka import broker as brokers
from streams.kafka import requests
from streams.kafka.client_options import kafka_python_options
from streams.kafka.topics import ensure
from streams.operations.overview import overview
from streams.processing.commands import Command, encode
from streams.processing.partitioner import partitions_of
from streams.processing.progress import Progress
from tests.faults import models
from tests.faults.evidence import gather
from tests.faults.follow import Follower
from tests.faults.order import UNIT
from tests.faults.send import Sender
from tests.faults.verify import Report, verify
from tests.processes import deployment, start
from tests.support.events.squeezed_month import DAY, Sent, Shape, stream
from tests.support.forks import Process
from tests.support.sending import Message, send_records

WORKER = [sys.executable, "-m", "tests.faults.worker"]
SWAPS = (0.0, 0.35, 0.7)  # shares of the stream after which a model version is published
ERASED = (0.25, 0.5, 0.6)  # after which a user is erased
PINNED = {  # the learner publishes nothing
    "learner.k_least": 10,
    "learner.k_most": 10,
    "learner.every_rows": 10**7,
    "learner.every": 31_536_000.0,
    "learner.rows_per_hour": 4,
}
QUICK = {
    "topics.partitions": 2,
    "state.journal": True,
    "state.session_timeout": 4.0,
    "state.rebalance_timeout": 4.0,
    "state.transaction_timeout": 10.0,
}


@dataclass(slots=True)
class Managed:
    """A worker that is started again when it ends, as a supervisor does."""

    process: Process
    options: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)  # of each start
    wanted: bool = True
    started: float = 0.0


class Run:
    """What a fault is played on. The clock is wall time, seconds."""

    def __init__(
        self,
        home: Path,
        seed: int,
        bootstrap: str | None = None,
        shape: Shape = Shape(),  # noqa: B008 (a tuple)
        rate: float = 1_500.0,
        records: Sequence[Sent] | None = None,
        patience: float = 180.0,
        **more: object,
    ) -> None:
        """bootstrap None: a broker of its own. more: settings."""
        self.home, self.seed, self.rate, self._patience = home, seed, rate, patience
        self.broker = None if bootstrap else brokers.start(home / "broker", die_with_parent=True)
        at = bootstrap or self.broker.bootstrap  # type: ignore[union-attr]
        self.records = stream(seed, shape) if records is None else list(records)
        self.versions: list[Version] = models.learned(self.records[-30_000:], len(SWAPS))
        self.settings: Settings = deployment(at, f"f{uuid.uuid4().hex[:8]}-", **PINNED | QUICK | more)
        never = str(1 << 60)  # the journal stays
        self.configure(self.settings.changelog, {"max.compaction.lag.ms": never, "min.compaction.lag.ms": never})
        self.workers: dict[str, Managed] = {}
        self.codes: list[int] = []  # of all ends, in their order
        self.published = self.erased = 0
        self.follower = Follower(self.settings)
        self.sender: Sender | None = None
        self.target, self._begun = 0, 0.0
        self.seconds: float | None = None  # from the fault until all that was sent before it is committed
        self.report: Report | None = None
        self.over = False  # the fault has said all there is to say: no end to wait for
        self.publish()

    # -- the broker ---------------------------------------------------------------------------------------------

    def configure(self, topic: str, config: dict[str, str]) -> None:
        admin = KafkaAdminClient(**kafka_python_options(self.settings))
        try:
            answer = admin.alter_configs([ConfigResource("TOPIC", topic, config)])
            assert answer == {"topic": {topic: "OK"}}, answer
        finally:
            admin.close()

    def put(self, topic: str, key: bytes, value: bytes | None, partition: int = 0) -> None:
        """One record, by a plain producer."""
        record = topic, Message(value, key, partition)
        asyncio.run(asyncio.wait_for(send_records(self.settings, [record]), 30))

    def publish(self) -> None:
        """The next model version."""
        version = self.versions[self.published]
        self.put(self.settings.topic("models"), str(version.number).encode(), dumps(version))
        self.published += 1

    def signal_broker(self, how: signal.Signals) -> None:
        assert self.broker is not None
        os.kill(self.broker.pid, how)
        if how == signal.SIGKILL and self.broker.child is not None:
            self.broker.child.wait(30)

    def restart_broker(self) -> None:
        assert self.broker is not None
        self.broker = brokers.start(self.home / "broker", port=self.broker.port, die_with_parent=True)

    def renew(self) -> None:
        """The topics anew, on a broker that has lost them."""
        self.follower.close()
        ensure(self.settings)
        self.published = 0
        self.publish()
        self.sender = None

    def put_all(self, records: Sequence[Sent]) -> None:
        """Send records at once."""
        if records:
            sender = Sender(self.settings, records, None)
            self.wait(sender.done, "records to be sent", tend=False)

    def committed(self) -> dict[int, list[Progress]]:
        """The progress that lies in the changelog."""
        return {part: found for part, found in gather(self.settings).progress.items() if found}

    def erase(self) -> None:
        """Ask for a user who has come by now to be erased."""
        user = self.records[self.erased * 7].key
        command = encode(Command("erase", f"request {self.erased}", user_id=user.decode()))
        place = int(partitions_of([user], self.settings.topics.partitions)[0])
        self.put(self.settings.topic("commands"), user, command, place)
        self.erased += 1

    # -- workers ------------------------------------------------------------------------------------------------

    def start(self, name: str, *options: str, failpoint: str | None = None, **more: Any) -> None:
        """failpoint holds for this start alone."""
        environ = {"FAILPOINT": failpoint} if failpoint else {}
        process = start(self.settings, self.home / name, "worker", *options, command=WORKER, environ=environ, **more)
        self.workers[name] = Managed(process, options, more, True, time.monotonic())

    def tend(self) -> None:
        """Start again what has ended, publish what is due."""
        for name, one in list(self.workers.items()):
            code = one.process.poll()
            if one.wanted and code is not None and time.monotonic() - one.started > 1.0:
                self.codes.append(code)
                self.start(name, *one.options, **one.more)
        sent = self.sender.sent if self.sender else 0
        if self.erased < len(ERASED) and sent >= ERASED[self.erased] * len(self.records) > 0:
            with suppress(KafkaError, TimeoutError):
                self.erase()
        if self.published < len(SWAPS) and sent >= SWAPS[self.published] * len(self.records) > 0:
            with suppress(KafkaError, TimeoutError):
                self.publish()

    def end(self, name: str, how: signal.Signals = signal.SIGTERM, seconds: float = 60.0) -> int:
        """End a worker for good; its exit code."""
        one = self.workers[name]
        one.wanted = False
        one.process.send_signal(how)
        code = one.process.wait(seconds)
        self.codes.append(code)
        return code

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End a worker; the supervisor starts it again."""
        self.workers[name].process.send_signal(how)
        self.workers[name].process.wait(60)

    def died(self, name: str, pid: int) -> bool:
        """Whether a process that a failpoint ends has ended."""
        process = self.workers[name].process
        return process.pid != pid or process.poll() is not None

    def stopped(self, name: str) -> bool:
        """Whether it stands still after SIGSTOP."""
        state = Path(f"/proc/{self.workers[name].process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "T"

    def log(self, name: str) -> str:
        path = self.home / name / "worker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def ready(self, name: str) -> bool:
        """Whether its page says so, of the process that runs now."""
        if self.workers[name].process.poll() is not None:
            return False
        found = re.findall(r"worker on (http://\S+)", self.log(name))
        try:
            with urllib.request.urlopen(f"{found[-1]}/readyz", timeout=2) as page:
                return bool(page.status == 200)
        except (IndexError, OSError):  # no page yet, the page of one before, not ready
            return False

    # -- time ---------------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 90.0, tend: bool = True) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if tend:
                self.tend()
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:.0f} s for {what}; exit codes so far {self.codes}")
            time.sleep(0.05)

    def send(self) -> None:
        self.sender = Sender(self.settings, self.records, self.rate)

    def begin(self, *names: str, failpoint: str | None = None, **more: Any) -> None:
        """Workers, then the stream once they are ready; the failpoint is the first one's."""
        for i, name in enumerate(names or ("a",)):
            self.start(name, failpoint=None if i else failpoint, **more)
        self.wait(lambda: all(self.ready(name) for name in self.workers), "the workers to be ready")
        self.send()

    def reach(self, share: float) -> None:
        """Until that share of the stream is committed."""
        self.wait(lambda: self.follower.applied() >= share * len(self.records), f"{share:.0%} of the stream")

    def fault(self) -> None:
        """It begins now."""
        self._begun, self.target = time.monotonic(), self.sender.sent if self.sender else 0

    def since(self) -> float:
        return round(time.monotonic() - self._begun, 1)

    def pause(self, seconds: float) -> None:
        """Let a fault last, with the supervisor at work."""
        until = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= until, "time to pass", seconds + 60)

    def recover(self, seconds: float = 120.0) -> None:
        """Until what was sent before the fault is committed, and a worker is ready."""

        def back() -> bool:
            ready = any(self.ready(name) for name, one in self.workers.items() if one.wanted)
            return ready and self.follower.applied() >= self.target

        self.wait(back, "recovery", seconds)
        self.seconds = self.since()

    def settled(self) -> bool:
        """All is sent and committed, all stands at the newest version, no pass is under way."""
        standing = list(self.follower.standing.values())
        return (
            self.sender is not None
            and self.sender.done()
            and self.published == len(SWAPS)
            and self.erased == len(ERASED)
            and self.follower.applied() >= len(self.records)
            and all(one.version == self.published and one.cursor is None for one in standing)
        )

    def finish(self) -> Report:
        """Wait for the end, stop the workers, look at everything."""
        self.wait(self.settled, "the end of the stream", self._patience)
        # a broker that is killed may take what the sender repeats for new: then there is more than was sent
        self.wait(
            lambda: not any(source["lag"] for part in overview(self.settings) for source in part["sources"].values()),
            "the end of the sources",
        )
        to = max(one.stamp for one in self.records if not one.reason) // UNIT * UNIT + 33 * DAY
        requests.advance(self.settings, to, 60.0)  # every exit there is
        self.wait(lambda: all(one.swept >= to for one in self.follower.standing.values()), "the sweep", self._patience)
        for name in [name for name, one in self.workers.items() if one.wanted]:
            self.wait(lambda name=name: self.ready(name), f"worker {name}")  # type: ignore[misc]
            code = self.end(name)
            assert code == 0, f"worker {name} ended with {code}"
        self.check_recoveries()
        evidence = gather(self.settings)
        self.report = verify(evidence)
        there = Counter(record.value for logs in evidence.logs.values() for log in logs for record in log)
        self.report.lost += (Counter(one.value for one in self.records) - there).total()
        return self.report

    def check_recoveries(self) -> None:
        """No worker was ready before all of its changelog records were read."""
        told = r"shoal: ready \S+ s after the assignment, (\S+) of (\S+) changelog records read"
        for name in self.workers:
            for done, total in re.findall(told, self.log(name)):
                assert done == total, f"worker {name} was ready after {done} of {total} changelog records"

    def close(self) -> None:
        self.follower.close()
        for one in self.workers.values():
            if one.process.poll() is None:
                with suppress(ProcessLookupError):
                    one.process.send_signal(signal.SIGCONT)
                    one.process.kill()
            one.process.wait()
        if self.broker is not None:
            brokers.stop(self.home / "broker")
