"""A broker that trusts nobody (TLS, SCRAM, ACLs): each role can do its part with the documented ACLs, and no less."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from kafka import KafkaProducer

from streams.config.settings import Settings, load
from streams.kafka.client_options import aiokafka_options, kafka_python_options
from tests.processes import SHOAL, applied, wait_for, worker
from tests.support.acls import GRANTS, Grant, grant, revoke
from tests.support.events.month import write
from tests.support.forks import run
from tests.support.secured import Secured, secured

pytestmark = pytest.mark.kafka
ROLES = ("worker", "shop", "reader", "operator")
CANARY = "canary-5e1d"  # in every password and key
PASSWORDS = {role: f"{CANARY}-{role}" for role in ROLES}
KEYFILE_PASSWORD, HASH_KEY = f"{CANARY}-keyfile", f"{CANARY}-hash"


@pytest.fixture(scope="module")
def broker(session_folder: Path) -> Iterator[Secured]:
    with secured(session_folder / "secured", keyfile_password=KEYFILE_PASSWORD) as started:
        for role, password in PASSWORDS.items():
            started.add_user(role, password)
        yield started


class Roles:
    """A deployment on that broker: its settings as each role has them, and commands run by a role."""

    def __init__(self, broker: Secured, prefix: str, home: Path) -> None:
        self.broker, self.prefix, self.home = broker, prefix, home

    def settings(self, role: str, **more: Any) -> Settings:
        return load(
            environ={},
            **{
                "prefix": self.prefix,
                "topics.replication": 1,
                "topics.min_insync_replicas": 1,
                "topics.partitions": 2,
                "topics.source_retention": -1,
                "web.port": 0,
                "learner.first_rows": 50,
                "state.session_timeout": 6.0,
                "state.rebalance_timeout": 6.0,
                "learner.hash_key": HASH_KEY,
                "kafka.ssl_certfile": str(self.broker.home / "client.pem"),
                "kafka.ssl_keyfile": str(self.broker.home / "client.key"),
                "kafka.ssl_keyfile_password": KEYFILE_PASSWORD,
                **self.broker.settings(role, PASSWORDS[role]),
                **more,
            },
        )

    def shoal(self, role: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command line as a role runs it: settings from variables, secrets from variables and files."""
        secret = self.home / f"{role}.secret"
        secret.write_text(PASSWORDS[role] + "\n")
        names = {
            "PREFIX": self.prefix,
            "TOPICS__REPLICATION": "1",
            "TOPICS__PARTITIONS": "2",
            "TOPICS__MIN_INSYNC_REPLICAS": "1",
            "TOPICS__SOURCE_RETENTION": "-1",
            "WEB__PORT": "1",
            "KAFKA__BOOTSTRAP_SERVERS": self.broker.bootstrap,
            "KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA__SASL_USERNAME": role,
            "KAFKA__SASL_PASSWORD_FILE": str(secret),
            "KAFKA__SSL_CAFILE": str(self.broker.home / "ca.pem"),
            "LEARNER__HASH_KEY": HASH_KEY,
            "KAFKA__SSL_CERTFILE": str(self.broker.home / "client.pem"),
            "KAFKA__SSL_KEYFILE": str(self.broker.home / "client.key"),
            "KAFKA__SSL_KEYFILE_PASSWORD": KEYFILE_PASSWORD,
            **more,
        }
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SHOAL_")}
        environ |= {f"SHOAL_{name}": value for name, value in names.items()}
        done = run([*SHOAL, *arguments], env=environ, cwd=self.home)
        assert CANARY not in done.stdout + done.stderr
        return done


@pytest.fixture
def roles(broker: Secured, prefix: str, tmp_path: Path) -> Roles:
    grant(broker.admin, GRANTS, prefix)
    return Roles(broker, prefix, tmp_path)


def changes(settings: Settings, topic: str, group: str, least: int = 1) -> list[dict[str, Any]]:
    """What a reader with a group of its own sees of a topic, from the start until there are so many."""

    async def run() -> list[dict[str, Any]]:
        consumer = AIOKafkaConsumer(
            topic,
            **aiokafka_options(settings),
            group_id=group,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            found: list[dict[str, Any]] = []
            while len(found) < least:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [json.loads(record.value) for record in records]
            return found
        finally:
            await consumer.stop()

    return asyncio.run(asyncio.wait_for(run(), 60))


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def returned(roles: Roles) -> None:
    """A shop's reject, repaired by an operator."""
    bad = {"event_time": 1, "event_type": "view", "user_id": "returned", "currency": "EUR"}
    shop = roles.settings("shop")
    producer = KafkaProducer(**kafka_python_options(shop), acks="all")
    producer.send(shop.source_topics[0], json.dumps(bad).encode(), b"returned").get(timeout=30)
    producer.close()
    listing = ("dead-letters", "--json", "--reason", "currency")
    wait_for(lambda: ok(roles.shoal("operator", *listing)) != "[]\n", "the reject")
    ok(roles.shoal("operator", "dead-letters", "--export", "bad.jsonl"))
    repaired = (roles.home / "bad.jsonl").read_text().replace("EUR", "USD")
    (roles.home / "good.jsonl").write_text(repaired)
    assert "1 sent" in roles.shoal("operator", "dead-letters", "--send-back", "good.jsonl").stderr
    wait_for(lambda: roles.shoal("operator", "user", "returned").returncode == 0, "what was sent back")


def test_each_role_does_its_part_with_the_acls_of_the_readme(roles: Roles) -> None:
    made = json.loads(ok(roles.shoal("operator", "topics", "--json")))
    assert {topic["state"] for topic in made} == {"created"}
    month = write(roles.home / "month.jsonl.gz", 3, visits=200, users=60)
    operator, reading = roles.settings("operator"), roles.settings("reader")
    with worker(roles.settings("worker"), roles.home) as process:
        ok(roles.shoal("shop", "replay", str(month), "--allow-jumps"))
        wait_for(lambda: process.poll() is not None or applied(operator) > 1_000, "the month")
        assert process.poll() is None, (roles.home / "worker.log").read_text()[-3000:]
        found = changes(reading, reading.topic("segment_changes"), f"{roles.prefix}its own", 20)
        assert {change["data"]["cause"] for change in found} >= {"first"}
        users = {change["subject"] for change in found}
        status = json.loads(ok(roles.shoal("operator", "status", "--json")))
        assert all(part["owner"] for part in status)
        ident = min(users)
        assert json.loads(ok(roles.shoal("operator", "user", ident, "--json")))["user"] == ident
        ok(roles.shoal("operator", "snapshot", "-o", "out.parquet"))
        ok(roles.shoal("operator", "similar", ident))
        ok(roles.shoal("operator", "models", "list"))
        ok(roles.shoal("operator", "segments", "history"))
        assert "windows already" in roles.shoal("operator", "models", "promote", "--space", "windows").stderr
        ok(roles.shoal("operator", "topics", "--check"))
        returned(roles)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def lacking(name: str, operation: str) -> Grant:
    """The worker's line of that name, and that it has the operation."""
    (one,) = [one for one in GRANTS if (one.role, one.name) == ("worker", name) and operation in one.operations]
    return one


@pytest.mark.parametrize(
    ("name", "operation", "told"),
    [
        ("segment-changes", "Write", "write topic {}segment-changes"),
        ("shoal", "Read", "GroupAuthorizationFailed: {}shoal"),
        ("shoal-learner", "Read", "GroupAuthorizationFailed: {}shoal-learner"),
        ("shoal-state-*", "Write", "TransactionalIdAuthorizationFailed: {}shoal-state-"),
    ],
)
def test_a_worker_that_lacks_an_acl_ends_with_a_line(roles: Roles, name: str, operation: str, told: str) -> None:
    ok(roles.shoal("operator", "topics"))
    one = lacking(name, operation)
    revoke(roles.broker.admin, one, operation, roles.prefix)
    if one.resource != "transactional id":  # visible, but no more
        grant(roles.broker.admin, [one._replace(operations=("Describe",))], roles.prefix)
    with worker(roles.settings("worker"), roles.home) as process:
        assert process.wait(60) == 4
    last = (roles.home / "worker.log").read_text().splitlines()[-1]
    assert last.startswith("shoal: error: the brokers do not allow this user to ")
    assert told.format(roles.prefix) in last


@pytest.mark.parametrize(("name", "operation"), [("segment-changes", "Write"), ("clickstream", "Read")])
def test_an_acl_taken_away_ends_the_worker_with_a_line(roles: Roles, name: str, operation: str) -> None:
    ok(roles.shoal("operator", "topics"))
    month = write(roles.home / "month.jsonl.gz", 3, visits=60, users=30)
    ok(roles.shoal("shop", "replay", str(month), "--allow-jumps"))
    with worker(roles.settings("worker"), roles.home) as process:
        wait_for(lambda: process.poll() is not None or applied(roles.settings("operator")) > 200, "the first events")
        revoke(roles.broker.admin, lacking(name, operation), operation, roles.prefix)
        ok(roles.shoal("shop", "replay", str(month), "--allow-jumps"))
        assert process.wait(60) == 4
    log = (roles.home / "worker.log").read_text()
    assert f"the brokers do not allow this user to continue: TopicAuthorizationFailed: {roles.prefix}{name}" in log
    assert CANARY not in log


@pytest.mark.parametrize("command", [("-v", "worker"), ("snapshot", "-o", "x")])
def test_who_is_not_who_he_says_and_a_ca_that_is_not_ours(roles: Roles, command: tuple[str, ...]) -> None:
    (roles.home / "wrong").write_text(f"{CANARY}-wrong")
    told = roles.shoal("worker", *command, KAFKA__SASL_PASSWORD_FILE=str(roles.home / "wrong"))
    assert told.returncode == 4, told.stderr
    (line,) = [one for one in told.stderr.splitlines() if one.startswith("shoal: error: ")]
    assert f"no broker at {roles.broker.bootstrap}: it refuses user 'worker': " in line
    told = roles.shoal("worker", *command, KAFKA__SSL_CAFILE=str(roles.broker.home / "other-ca.pem"))
    assert told.returncode == 4, told.stderr
    (line,) = [one for one in told.stderr.splitlines() if one.startswith("shoal: error: ")]
    assert f"no broker at {roles.broker.bootstrap}: its certificate is refused: " in line
