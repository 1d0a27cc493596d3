"""A deployment of one partition for tests: events in, what its worker says, what lies in its changelog."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, NewTopic
from kafka.errors import PolicyViolationError
from kafka.structs import TopicPartition

from streams.kafka.topics import specs
from tests.processes import SHOAL, deployment, remove_dead_members, views, wait_for, worker
from tests.support.forks import Process
from tests.support.sending import Message, send

USERS = 97


class Deployed:
    """settings, and a folder for its one worker."""

    removes_dead_members = True  # before a worker starts; else it waits until their sessions have expired

    def __init__(self, bootstrap: str, prefix: str, folder: Path, **more: object) -> None:
        self.settings = deployment(
            bootstrap, prefix, **{"topics.partitions": 1, "learner.first_rows": 1_000_000, **more}
        )
        self.folder, self.sent = folder, Counter[bytes]()
        self._processes: list[Process] = []
        self.clicks, self.purchases = self.settings.source_topics
        self._clock = int(time.time() * 1000) - 3_600_000

    def run(self, *options: str, program: Sequence[str] = SHOAL, folder: Path | None = None) -> Any:
        """Its worker (or another one, in another folder), as a block."""
        return self._run(worker(self.settings, folder or self.folder, *options, program=program))

    @contextmanager
    def _run(self, block: AbstractContextManager[Process]) -> Iterator[Process]:
        if self.removes_dead_members:
            remove_dead_members(self.settings, self._processes)
        with block as process:
            self._processes.append(process)
            yield process

    def send(self, count: int) -> None:
        """Views, each of another user in turn."""
        send(self.settings, self.clicks, [self._view(f"user-{i % USERS}") for i in range(count)])

    def _view(self, user: str) -> Message:
        self._clock += 5
        event = {"event_time": self._clock, "event_type": "view", "user_id": user, "price": 1.5}
        self.sent[user.encode()] += 1
        return Message(json.dumps(event).encode(), user.encode(), stamp=self._clock)

    def counted(self) -> dict[bytes, int]:
        """Views of each user's committed row."""
        return views(self.settings)

    def settled(self, process: Process, seconds: float = 60.0) -> None:
        """Until every record that was sent is counted exactly once, and not more."""

        def reached() -> bool:
            assert process.poll() is None, self.log()[-3000:]
            return sum(self.counted().values()) >= sum(self.sent.values())

        try:
            wait_for(reached, "all that was sent", seconds)
        except AssertionError as error:
            counted = sum(self.counted().values())
            raise AssertionError(f"{error}: {counted} of {sum(self.sent.values())}\n{self.log()[-5000:]}") from None
        assert self.counted() == dict(self.sent)

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def last_words(self) -> str:
        """The line with which the worker ended."""
        found = re.findall(r"^shoal: error: .*$", self.log(), re.MULTILINE)
        return found[-1] if found else ""

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of the newest worker's page; (0, "") while there is none."""
        found = re.findall(r"worker on (http://\S+)", self.log())
        if not found:
            return 0, ""
        try:
            with urllib.request.urlopen(found[-1] + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        return self.page("/readyz")[0] == 200

    def applied(self) -> int:
        """Records that the running worker's task stands for, committed or not."""
        status, body = self.page("/status")
        parts = json.loads(body)["partitions"].values() if status == 200 else ()
        return sum(source["offset"] for part in parts for source in part["sources"].values())

    def anew(self, topic: str) -> None:
        """Delete a topic and create it again: another of the same name."""
        (spec,) = [one for one in specs(self.settings) if one.name == topic]
        admin = self.admin()
        admin.delete_topics([topic])
        wait_for(lambda: topic not in admin.list_topics(), "the topic to go")
        admin.create_topics([NewTopic(topic, 1, 1, topic_configs=spec.config)], wait_for_metadata=True)
        admin.close()

    def empty(self, topic: str, before: int) -> None:
        """Delete its records before an offset (-1: all); a compacted one is not compacted for that moment."""
        admin = self.admin()
        compacted = topic == self.settings.changelog
        if compacted:
            self._policy(admin, topic, "delete")

        def deleted() -> bool:
            try:
                admin.delete_records({TopicPartition(topic, 0): before})
            except PolicyViolationError:  # the broker's log has not heard of it yet
                return False
            return True

        wait_for(deleted, "the records to go")
        if compacted:
            self._policy(admin, topic, "compact")
        admin.close()

    def _policy(self, admin: KafkaAdminClient, topic: str, policy: str) -> None:
        admin.alter_configs([ConfigResource("TOPIC", topic, {"cleanup.policy": policy})])
        asked = [ConfigResource("TOPIC", topic, ["cleanup.policy"])]

        def there() -> bool:
            config = admin.describe_configs(asked, config_filter="all")["topic"][topic]
            return bool(config["cleanup.policy"]["value"] == policy)

        wait_for(there, f"cleanup.policy {policy}")

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.settings.kafka.bootstrap_servers)
